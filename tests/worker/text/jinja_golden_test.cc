#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "worker/text/builtin_templates.h"
#include "worker/text/chat_template.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/template.h"

namespace berth::text {
namespace {

using Json = nlohmann::ordered_json;

// The clock that make_goldens.py gives strftime_now.
const absl::Time kClock = absl::FromCivil(absl::CivilSecond(2024, 2, 9, 13, 5, 7), absl::UTCTimeZone());
constexpr char kFolder[] = "tests/golden/templates/";

std::string ReadFile(const std::string& name) {
  std::ifstream file(kFolder + name);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(JinjaGoldenTest, ExpressionsAndStatementsAreAsJinja2) {
  const Json golden = Json::parse(ReadFile("expressions.json"));
  std::vector<std::pair<std::string, jinja::Value>> context;
  for (const auto& [name, json] : golden["context"].items()) context.emplace_back(name, *jinja::FromJson(json));
  ASSERT_GE(golden["cases"].size(), 150u);
  for (const Json& item : golden["cases"]) {
    const std::string source = item["template"];
    absl::StatusOr<std::string> text = absl::InternalError("");
    if (auto parsed = jinja::Template::FromSource(source); parsed.ok()) {
      text = parsed->Render(context, kClock);
    } else {
      text = parsed.status();
    }
    if (item["text"].is_null()) {
      EXPECT_FALSE(text.ok()) << source << "\n  gave: " << *text << "\n  jinja2 refuses it: " << item["error"];
    } else {
      EXPECT_EQ(text.value_or(text.status().ToString()), item["text"].get<std::string>()) << source;
    }
  }
}

ChatMessage ToMessage(const Json& json) {
  ChatMessage message;
  for (const auto& [name, value] : json.items()) {
    if (name == "role") {
      message.role = value;
    } else if (name == "content" && value.is_string()) {
      message.content = value;
    } else {
      message.fields[name] = value.dump();
    }
  }
  return message;
}

TEST(JinjaGoldenTest, FamiliesAreAsJinja2) {
  const Json golden = Json::parse(ReadFile("families.json"));
  std::map<std::string, std::unique_ptr<ChatTemplate>> templates;
  int cases = 0;
  for (const Json& item : golden["cases"]) {
    const std::string family = item["family"], where = family + ": " + item["name"].get<std::string>();
    if (!templates.contains(family)) {
      auto parsed = ParseChatTemplate(ReadFile("families/" + family + ".jinja"), golden["bos_token"], golden["eos_token"]);
      ASSERT_TRUE(parsed.ok()) << family << ": " << parsed.status();
      templates[family] = *std::move(parsed);
    }
    std::vector<ChatMessage> messages;
    for (const Json& message : golden["conversations"][item["conversation"].get<std::string>()])
      messages.push_back(ToMessage(message));
    RenderOptions options{.clock = kClock};
    for (const auto& [name, value] : golden["options"][item["option"].get<std::string>()].items())
      options.variables[name] = value.dump();
    const absl::StatusOr<std::string> text = templates[family]->Render(messages, options);
    if (item["text"].is_null()) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << where << ", jinja2: " << item["error"];
    } else {
      EXPECT_EQ(text.value_or(text.status().ToString()), item["text"].get<std::string>()) << where;
    }
    ++cases;
  }
  EXPECT_GE(templates.size(), 8u);
  EXPECT_GT(cases, 200);
}

TEST(JinjaGoldenTest, BuiltinTemplatesAreAsJinja2) {
  const Json golden = Json::parse(ReadFile("builtin.json"));
  std::set<std::string> names;
  for (const Json& item : golden["cases"]) {
    const std::string name = item["name"], where = name + ": " + item["conversation"].get<std::string>();
    names.insert(name);
    const auto parsed = ParseChatTemplate(FindBuiltinTemplate(name).source, golden["bos_token"], golden["eos_token"]);
    ASSERT_TRUE(parsed.ok()) << name << ": " << parsed.status();
    std::vector<ChatMessage> messages;
    for (const Json& message : golden["conversations"][item["conversation"].get<std::string>()])
      messages.push_back(ToMessage(message));
    const absl::StatusOr<std::string> text =
        (*parsed)->Render(messages, {.add_generation_prompt = item["prompt"].get<bool>(), .clock = kClock});
    if (item["text"].is_null()) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << where << ", jinja2: " << item["error"];
    } else {
      EXPECT_EQ(text.value_or(text.status().ToString()), item["text"].get<std::string>()) << where;
    }
  }
  EXPECT_EQ(names.size(), BuiltinTemplateNames().size());
}

// What LMDeploy 0.4.0 writes for the same conversations (after the first token, which is the tokenizer's there).
TEST(BuiltinTemplateTest, WritesTheFamiliesMarkers) {
  struct Case {
    const char* name;
    const char* first;   // SYS, U1, an answer to come
    const char* second;  // what a second turn adds to the first with answer A
  };
  const Case cases[] = {
      {"vicuna", "SYS USER: U1 ASSISTANT: ", "A</s>USER: U2 ASSISTANT: "},
      {"internlm", "<|System|>:SYS\n<|User|>:U1\n<|Bot|>:", "A<eoa>\n<|User|>:U2\n<|Bot|>:"},
      {"internlm2", "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n",
       "A<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"},
      {"qwen", "<|im_start|>system\nSYS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n",
       "A<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"},
      {"baichuan2", "SYS<reserved_106>U1<reserved_107>", "A<reserved_106>U2<reserved_107>"},
      {"llama2", "[INST] <<SYS>>\nSYS\n<</SYS>>\n\nU1 [/INST] ", "A</s><s>[INST] U2 [/INST] "},
      {"mistral", "SYS[INST] U1 [/INST]", "A</s>[INST] U2 [/INST]"},
      {"gemma", "SYS<start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>model\n",
       "A<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n"},
      {"deepseek", "SYS\n\nUser: U1\n\nAssistant:", " A</s>User: U2\n\nAssistant:"},
      {"solar", "### System:\nSYS\n\n### User:\nU1\n\n### Assistant:\n", "A\n\n### User:\nU2\n\n### Assistant:\n"},
  };
  for (const Case& item : cases) {
    const auto chat = ParseChatTemplate(FindBuiltinTemplate(item.name).source, "<s>", "</s>").value();
    std::vector<ChatMessage> messages = {{.role = "system", .content = "SYS"}, {.role = "user", .content = "U1"}};
    std::string text = chat->Render(messages, {.clock = kClock}).value();
    if (text.starts_with("<s>")) text.erase(0, 3);
    EXPECT_EQ(text, item.first) << item.name;
    messages.push_back({.role = "assistant", .content = "A"});
    messages.push_back({.role = "user", .content = "U2"});
    std::string both = chat->Render(messages, {.clock = kClock}).value();
    if (both.starts_with("<s>")) both.erase(0, 3);
    EXPECT_EQ(both, std::string(item.first) + item.second) << item.name;
  }
  const auto glm = ParseChatTemplate(FindBuiltinTemplate("chatglm2").source, "", "</s>").value();
  EXPECT_EQ(
      glm->Render({{.role = "user", .content = "U1"}, {.role = "assistant", .content = "A"}, {.role = "user", .content = "U2"}},
                  {.clock = kClock})
          .value(),
      "[gMASK]sop[Round 1]\n\n问：U1\n\n答：A\n\n[Round 2]\n\n问：U2\n\n答：");
}

TEST(BuiltinTemplateTest, AFamilysTokensChoose) {
  const auto with = [](std::string_view known) { return [known](std::string_view token) { return token == known; }; };
  EXPECT_EQ(BuiltinTemplateOf("llama", with("<|eot_id|>")), "llama3");
  EXPECT_EQ(BuiltinTemplateOf("qwen2", with("<|im_start|>")), "qwen");
  EXPECT_EQ(BuiltinTemplateOf("llama", with("")), "") << "a base model chats in no known way";
  EXPECT_EQ(FindBuiltinTemplate("no such").source, "");
}

}  // namespace
}  // namespace berth::text
