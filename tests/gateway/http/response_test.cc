#include "gateway/http/response.h"

#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace berth::http {
namespace {

using nlohmann::json;

v1::StreamGenerateResponse Started() {
  v1::StreamGenerateResponse message;
  message.set_request_id("r");
  message.mutable_started()->set_model("m");
  return message;
}

v1::StreamGenerateResponse Text(const std::string& text, int choice = 0) {
  v1::StreamGenerateResponse message;
  message.mutable_delta()->set_text(text);
  message.mutable_delta()->set_choice_index(choice);
  return message;
}

void AddLogprob(v1::Delta& delta, const std::string& token, float logprob) {
  v1::TokenLogprob& entry = *delta.add_logprobs();
  entry.set_token(token);
  entry.set_logprob(logprob);
  v1::TokenLogprob::Alternative& other = *entry.add_alternatives();
  other.set_token("alt");
  other.set_logprob(-9);
}

void AddPromptLogprobs(google::protobuf::RepeatedPtrField<v1::TokenLogprob>& logprobs, const std::vector<std::string>& tokens) {
  v1::Delta delta;
  for (const std::string& token : tokens) AddLogprob(delta, token, -2);
  logprobs.MergeFrom(delta.logprobs());
}

v1::StreamGenerateResponse Finished(v1::FinishReason reason) {
  v1::StreamGenerateResponse message;
  v1::Finished& finished = *message.mutable_finished();
  finished.add_choices()->set_reason(reason);
  finished.mutable_usage()->set_prompt_tokens(10);
  finished.mutable_usage()->set_cached_tokens(4);
  finished.mutable_usage()->set_completion_tokens(2);
  return message;
}

// Splits text into the JSON of its events.
std::vector<json> Events(std::string text) {
  std::vector<json> events;
  while (!text.empty()) {
    EXPECT_EQ(text.rfind("data: ", 0), 0u);
    const size_t end = text.find("\n\n");
    events.push_back(json::parse(text.substr(6, end - 6)));
    text.erase(0, end + 2);
  }
  return events;
}

TEST(EventFormatterTest, AStreamThatWentOnElsewhereSaysSoInAComment) {
  EventFormatter formatter({.chat = true});
  v1::StreamGenerateResponse message;
  message.mutable_resumed()->set_worker_id("w1");
  EXPECT_EQ(formatter.Format(message), ": resumed on w1\n\n");
}

TEST(EventFormatterTest, AChatBeginsWithTheRoleAndEndsWithTheReason) {
  EventFormatter formatter({.chat = true, .created = 5});
  const auto first = Events(formatter.Format(Started()));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0]["id"], "chatcmpl-r");
  EXPECT_EQ(first[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(first[0]["created"], 5);
  EXPECT_EQ(first[0]["model"], "m");
  EXPECT_EQ(first[0]["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_TRUE(first[0]["choices"][0]["finish_reason"].is_null());
  EXPECT_FALSE(first[0].contains("usage"));
  const auto next = Events(formatter.Format(Text("hé")));
  EXPECT_EQ(next[0]["choices"][0]["delta"], (json{{"content", "hé"}}));
  const auto last = Events(formatter.Format(Finished(v1::FINISH_REASON_STOP_STRING)));
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0]["choices"][0]["delta"], json::object());
  EXPECT_EQ(last[0]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(EventFormatter({}).End(absl::OkStatus()), "data: [DONE]\n\n");
}

TEST(EventFormatterTest, EveryChoiceGetsItsRole) {
  EventFormatter formatter({.chat = true, .choice_count = 2});
  const auto first = Events(formatter.Format(Started()));
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[1]["choices"][0]["index"], 1);
  EXPECT_EQ(Events(formatter.Format(Text("x", 1)))[0]["choices"][0]["index"], 1);
}

// The relay refuses such a request, after the formatter was made.
TEST(EventFormatterTest, ACountThatNobodyCheckedYetTakesNoMemory) {
  EventFormatter formatter({.choice_count = 2147483647, .prompt_count = 128});
  EXPECT_EQ(Events(formatter.Format(Text("x", 1)))[0]["choices"][0]["index"], 1);
}

TEST(EventFormatterTest, UsageComesInAChunkOfItsOwnWhenAskedFor) {
  EventFormatter formatter({.chat = true, .include_usage = true});
  EXPECT_TRUE(Events(formatter.Format(Started()))[0]["usage"].is_null());
  const auto last = Events(formatter.Format(Finished(v1::FINISH_REASON_LENGTH)));
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[0]["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(last[0]["usage"].is_null());
  EXPECT_EQ(last[1]["choices"], json::array());
  EXPECT_EQ(last[1]["usage"], (json{{"prompt_tokens", 10},
                                    {"completion_tokens", 2},
                                    {"total_tokens", 12},
                                    {"prompt_tokens_details", {{"cached_tokens", 4}}}}));
}

TEST(EventFormatterTest, ACompletionStreamsText) {
  EventFormatter formatter({.chat = false});
  EXPECT_EQ(formatter.Format(Started()), "");
  const auto next = Events(formatter.Format(Text("hi")));
  EXPECT_EQ(next[0]["object"], "text_completion");
  EXPECT_EQ(next[0]["id"], "cmpl-r");
  EXPECT_EQ(next[0]["choices"][0]["text"], "hi");
  EXPECT_EQ(Events(formatter.Format(Finished(v1::FINISH_REASON_LENGTH)))[0]["choices"][0]["text"], "");
}

TEST(EventFormatterTest, AnErrorComesBeforeTheEnd) {
  const std::string text = EventFormatter({}).End(absl::UnavailableError("worker lost"));
  EXPECT_EQ(json::parse(text.substr(6, text.find("\n\n") - 6))["error"]["message"], "worker lost");
  EXPECT_TRUE(text.ends_with("data: [DONE]\n\n"));
}

TEST(EventFormatterTest, ChatLogprobsCarryBytesAndAlternatives) {
  EventFormatter formatter({.chat = true, .logprobs = true});
  v1::StreamGenerateResponse message = Text("h");
  AddLogprob(*message.mutable_delta(), "\xc3", -0.5);
  const auto event = Events(formatter.Format(message))[0];
  const json& entry = event["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(entry["token"], "\xef\xbf\xbd") << "half a character is replaced";
  EXPECT_EQ(entry["bytes"], json::array({0xc3}));
  EXPECT_EQ(entry["logprob"], -0.5);
  EXPECT_EQ(entry["top_logprobs"][0]["token"], "alt");
}

TEST(EventFormatterTest, TextLogprobsCountCharactersOverTheStream) {
  EventFormatter formatter({.logprobs = true});
  std::vector<int> offsets;
  for (const char* token : {"hé", "llo", "!"}) {
    v1::StreamGenerateResponse message = Text(token);
    AddLogprob(*message.mutable_delta(), token, -1);
    offsets.push_back(Events(formatter.Format(message))[0]["choices"][0]["logprobs"]["text_offset"][0]);
  }
  EXPECT_EQ(offsets, (std::vector<int>{0, 2, 5}));
}

TEST(FormatWholeTest, AChatAnswer) {
  v1::GenerateResponse response;
  response.set_request_id("r");
  response.mutable_started()->set_model("m");
  v1::GenerateResponse::Choice& choice = *response.add_choices();
  choice.set_text("hello");
  choice.set_finish_reason(v1::FINISH_REASON_STOP_TOKEN);
  response.mutable_usage()->set_prompt_tokens(3);
  const json body = json::parse(EventFormatter({.chat = true, .created = 9}).Whole(response));
  EXPECT_EQ(body["id"], "chatcmpl-r");
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "m");
  EXPECT_EQ(body["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "hello");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(body["usage"]["total_tokens"], 3);
}

// Two choices for each of two prompts. A special token takes no place in the text, nor does the blank before the first word.
TEST(EventFormatterTest, AnEchosLogprobsComeWithEveryChoice) {
  EventFormatter formatter({.logprobs = true, .choice_count = 2, .prompt_count = 2, .echoes = {"ä", "hé you"}});
  v1::StreamGenerateResponse message;
  message.mutable_delta()->set_choice_index(2);
  AddPromptLogprobs(*message.mutable_delta()->mutable_prompt_logprobs(), {"<s>", " hé"});
  const std::vector<json> first = Events(formatter.Format(message));
  message.mutable_delta()->clear_prompt_logprobs();
  AddPromptLogprobs(*message.mutable_delta()->mutable_prompt_logprobs(), {" you"});
  const std::vector<json> second = Events(formatter.Format(message));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(first[i]["choices"][0]["index"], 2 + i);
    EXPECT_EQ(first[i]["choices"][0]["text"], "hé you");
    const json& logprobs = first[i]["choices"][0]["logprobs"];
    EXPECT_EQ(logprobs["tokens"], (json{"<s>", " hé"}));
    EXPECT_EQ(logprobs["token_logprobs"], (json{nullptr, -2}));
    EXPECT_EQ(logprobs["top_logprobs"], (json{nullptr, {{"alt", -9}}}));
    EXPECT_EQ(logprobs["text_offset"], (json{0, 0}));
    EXPECT_EQ(second[i]["choices"][0]["text"], "");
    EXPECT_EQ(second[i]["choices"][0]["logprobs"]["token_logprobs"], json{-2});
    EXPECT_EQ(second[i]["choices"][0]["logprobs"]["text_offset"], json{2});
  }
  v1::StreamGenerateResponse output = Text("!", 3);
  AddLogprob(*output.mutable_delta(), "!", -1);
  const json last = Events(formatter.Format(output))[0]["choices"][0];
  EXPECT_EQ(last["text"], "!");
  EXPECT_EQ(last["logprobs"]["text_offset"], json{6});
}

TEST(FormatWholeTest, AnEchosLogprobsGoBeforeTheOutputs) {
  v1::GenerateResponse response;
  for (int i = 0; i < 2; ++i) response.add_choices()->set_index(i);
  AddPromptLogprobs(*response.mutable_choices(0)->mutable_prompt_logprobs(), {"a", "b"});
  response.mutable_choices(1)->set_text("c");
  AddPromptLogprobs(*response.mutable_choices(1)->mutable_logprobs(), {"c"});
  const json body = json::parse(EventFormatter({.logprobs = true, .choice_count = 2, .echoes = {"ab"}}).Whole(response));
  EXPECT_EQ(body["choices"][0]["logprobs"]["token_logprobs"], (json{nullptr, -2}));
  EXPECT_EQ(body["choices"][1]["text"], "abc");
  EXPECT_EQ(body["choices"][1]["logprobs"]["tokens"], (json{"a", "b", "c"}));
  EXPECT_EQ(body["choices"][1]["logprobs"]["token_logprobs"], (json{nullptr, -2, -2}));
  EXPECT_EQ(body["choices"][1]["logprobs"]["text_offset"], (json{0, 1, 2}));
}

TEST(FormatWholeTest, ACompletionAnswerWithLogprobs) {
  v1::GenerateResponse response;
  v1::GenerateResponse::Choice& choice = *response.add_choices();
  choice.set_text("hi");
  v1::Delta delta;
  AddLogprob(delta, "hi", -1);
  *choice.mutable_logprobs() = delta.logprobs();
  const json body = json::parse(EventFormatter({.logprobs = true}).Whole(response));
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], "hi");
  EXPECT_EQ(body["choices"][0]["logprobs"]["tokens"][0], "hi");
  EXPECT_EQ(body["choices"][0]["logprobs"]["top_logprobs"][0]["alt"], -9);
}

TEST(FormatWholeTest, ToolCallsAndReasoningHaveTheirPlaces) {
  v1::GenerateResponse response;
  v1::GenerateResponse::Choice& choice = *response.add_choices();
  choice.set_reasoning("hm");
  choice.add_tool_calls()->set_name("f");
  choice.set_finish_reason(v1::FINISH_REASON_TOOL_CALLS);
  const json message = json::parse(EventFormatter({.chat = true}).Whole(response))["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["tool_calls"][0]["function"]["name"], "f");
}

TEST(FormatModelsTest, ListsWhatIsServed) {
  v1::Model model;
  model.set_name("m");
  model.set_context_length(2048);
  const json list = json::parse(FormatModels({model}, 7));
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0]["id"], "m");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["owned_by"], "berth");
  EXPECT_EQ(list["data"][0]["max_model_len"], 2048);
  EXPECT_EQ(json::parse(FormatModel(model, 7))["id"], "m");
}

}  // namespace
}  // namespace berth::http
