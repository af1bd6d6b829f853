#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

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

}  // namespace
}  // namespace berth::text
