#include "gateway/http/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::Property;

json Chat(const json& more = json::object()) {
  json body = {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}};
  body.update(more);
  return body;
}

json Text(const json& more = json::object()) {
  json body = {{"model", "m"}, {"prompt", "hi"}};
  body.update(more);
  return body;
}

// The field at fault.
std::string Fault(const absl::StatusOr<CompletionRequest>& request) {
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  const auto violations = rpc::FieldViolations(request.status());
  return violations.empty() ? "" : violations.front().first;
}
std::string ChatFault(const json& more) { return Fault(ParseBody(ReadChatCompletion, Chat(more).dump())); }
std::string TextFault(const json& more) { return Fault(ParseBody(ReadTextCompletion, Text(more).dump())); }

TEST(ChatRequestTest, TheSmallestRequestLeavesAllToTheModel) {
  const auto request = ParseBody(ReadChatCompletion, Chat().dump());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->chat);
  EXPECT_FALSE(request->stream);
  EXPECT_EQ(request->spec.model(), "m");
  EXPECT_EQ(request->spec.prompt().chat().messages(0).content(), "hi");
  EXPECT_FALSE(request->spec.prompt().chat().has_template_variables());
  EXPECT_EQ(request->spec.sampling().ByteSizeLong(), 0u);
  EXPECT_EQ(request->spec.stop().ByteSizeLong(), 0u);
  EXPECT_FALSE(request->spec.output().has_top_logprobs());
  EXPECT_TRUE(request->spec.session_id().empty());
}

TEST(ChatRequestTest, EveryFieldReachesTheSpec) {
  const auto request = ParseBody(ReadChatCompletion, Chat({{"temperature", 0.5},
                                                           {"top_p", 0.9},
                                                           {"top_k", 40},
                                                           {"min_p", 0.1},
                                                           {"repetition_penalty", 1.1},
                                                           {"presence_penalty", 1},
                                                           {"frequency_penalty", -1},
                                                           {"seed", -7},
                                                           {"n", 3},
                                                           {"logit_bias", {{"17", -100}}},
                                                           {"max_tokens", 5},
                                                           {"min_tokens", 2},
                                                           {"stop", {"a", "b"}},
                                                           {"stop_token_ids", {9}},
                                                           {"ignore_eos", true},
                                                           {"skip_special_tokens", false},
                                                           {"logprobs", true},
                                                           {"top_logprobs", 4},
                                                           {"stream", true},
                                                           {"stream_options", {{"include_usage", true}}},
                                                           {"session_id", "s"},
                                                           {"user", "ignored"},
                                                           {"priority", 3},
                                                           {"unknown", {1, 2}}})
                                                         .dump());
  ASSERT_TRUE(request.ok()) << request.status();
  const v1::SamplingParams& sampling = request->spec.sampling();
  EXPECT_FLOAT_EQ(sampling.temperature(), 0.5);
  EXPECT_FLOAT_EQ(sampling.top_p(), 0.9f);
  EXPECT_EQ(sampling.top_k(), 40);
  EXPECT_FLOAT_EQ(sampling.min_p(), 0.1f);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty(), 1.1f);
  EXPECT_FLOAT_EQ(sampling.presence_penalty(), 1);
  EXPECT_FLOAT_EQ(sampling.frequency_penalty(), -1);
  EXPECT_EQ(sampling.seed(), static_cast<uint64_t>(-7));
  EXPECT_EQ(sampling.choice_count(), 3);
  EXPECT_FLOAT_EQ(sampling.logit_bias().at(17), -100);
  EXPECT_EQ(request->spec.stop().max_tokens(), 5);
  EXPECT_EQ(request->spec.stop().min_tokens(), 2);
  EXPECT_THAT(request->spec.stop().stop_strings(), ElementsAre("a", "b"));
  EXPECT_THAT(request->spec.stop().stop_token_ids(), ElementsAre(9));
  EXPECT_TRUE(request->spec.stop().ignore_eos());
  EXPECT_FALSE(request->spec.output().skip_special_tokens());
  EXPECT_EQ(request->spec.output().top_logprobs(), 4);
  EXPECT_EQ(request->spec.session_id(), "s");
  EXPECT_EQ(request->spec.priority(), 3);
  EXPECT_TRUE(request->stream);
  EXPECT_TRUE(request->include_usage);
}

TEST(ChatRequestTest, NamesOfOneFieldMustNotContradictEachOther) {
  EXPECT_EQ(
      ParseBody(ReadChatCompletion, Chat({{"max_completion_tokens", 7}, {"max_tokens", 7}}).dump())->spec.stop().max_tokens(),
      7);
  EXPECT_EQ(ChatFault({{"max_completion_tokens", 7}, {"max_tokens", 5}}), "max_completion_tokens");
  EXPECT_EQ(ChatFault({{"min_new_tokens", 2}, {"min_tokens", 1}}), "min_new_tokens");
}

TEST(ChatRequestTest, ContentMayBeParts) {
  json parts = {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}};
  const auto request = ParseBody(ReadChatCompletion, Chat({{"messages", {{{"role", "user"}, {"content", parts}}}}}).dump());
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->spec.prompt().chat().messages(0).content(), "ab");
  parts.push_back({{"type", "image_url"}});
  EXPECT_EQ(ChatFault({{"messages", {{{"role", "user"}, {"content", parts}}}}}), "messages[0].content[2].type");
}

TEST(ChatRequestTest, AToolsAnswerAndItsCallArePassedOn) {
  const json call = {{"id", "c1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}};
  const auto request =
      ParseBody(ReadChatCompletion, Chat({{"messages",
                                           {{{"role", "assistant"}, {"content", nullptr}, {"tool_calls", json::array({call})}},
                                            {{"role", "tool"}, {"content", "42"}, {"tool_call_id", "c1"}}}}})
                                        .dump());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.prompt().chat().messages(0).tool_calls(0).name(), "f");
  EXPECT_EQ(request->spec.prompt().chat().messages(1).tool_call_id(), "c1");
}

TEST(ChatRequestTest, SessionsMayBeNumbered) {
  EXPECT_EQ(ParseBody(ReadChatCompletion, Chat({{"session_id", 12}}).dump())->spec.session_id(), "12");
  EXPECT_EQ(ParseBody(ReadChatCompletion, Chat({{"session_id", -1}}).dump())->spec.session_id(), "");
  EXPECT_EQ(ChatFault({{"session_id", 1.5}}), "session_id");
}

TEST(ChatRequestTest, ResponseFormatsBecomeConstraints) {
  EXPECT_FALSE(ParseBody(ReadChatCompletion, Chat({{"response_format", {{"type", "text"}}}}).dump())->spec.has_constraint());
  EXPECT_TRUE(ParseBody(ReadChatCompletion, Chat({{"response_format", {{"type", "json_object"}}}}).dump())
                  ->spec.constraint()
                  .json_object());
  const json schema = {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", {{"type", "object"}}}}}};
  EXPECT_EQ(ParseBody(ReadChatCompletion, Chat({{"response_format", schema}}).dump())->spec.constraint().json_schema(),
            R"({"type":"object"})");
  EXPECT_EQ(ChatFault({{"response_format", {{"type", "yaml"}}}}), "response_format.type");
  EXPECT_EQ(ChatFault({{"response_format", {{"type", "json_schema"}}}}), "response_format.json_schema");
}

TEST(ChatRequestTest, OtherServersNamesForConstraintsAreRefused) {
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_whitespace_pattern",
                           "structured_outputs", "structural_tag", "json_schema", "regex", "ebnf"}) {
    EXPECT_EQ(ChatFault({{name, "x"}}), name);
    EXPECT_EQ(TextFault({{name, "x"}}), name);
  }
  EXPECT_THAT(std::string(ParseBody(ReadChatCompletion, Chat({{"guided_json", "x"}}).dump()).status().message()),
              ::testing::HasSubstr("response_format"));
}

TEST(ChatRequestTest, TopKMayBeOffAsOtherServersSayIt) {
  const v1::SamplingParams sampling = ParseBody(ReadChatCompletion, Chat({{"top_k", -1}}).dump())->spec.sampling();
  EXPECT_TRUE(sampling.has_top_k());
  EXPECT_EQ(sampling.top_k(), 0);
}

TEST(ChatRequestTest, TemplateVariablesArePassedOn) {
  const auto request = ParseBody(ReadChatCompletion, Chat({{"chat_template_kwargs", {{"enable_thinking", false}}}}).dump());
  EXPECT_EQ(request->spec.prompt().chat().template_variables().fields().count("enable_thinking"), 1u);
}

TEST(ChatRequestTest, NamesWhatIsMissingOrOfTheWrongType) {
  EXPECT_EQ(ChatFault({{"model", nullptr}}), "model");
  EXPECT_EQ(ChatFault({{"model", 3}}), "model");
  EXPECT_EQ(ChatFault({{"messages", nullptr}}), "messages");
  EXPECT_EQ(ChatFault({{"messages", json::array()}}), "messages");
  EXPECT_EQ(ChatFault({{"messages", "hi"}}), "messages");
  EXPECT_EQ(ChatFault({{"messages", {"hi"}}}), "messages[0]");
  EXPECT_EQ(ChatFault({{"messages", {{{"content", "hi"}}}}}), "messages[0].role");
  EXPECT_EQ(ChatFault({{"messages", {{{"role", "user"}, {"content", 3}}}}}), "messages[0].content");
  EXPECT_EQ(ChatFault({{"temperature", "hot"}}), "temperature");
  EXPECT_EQ(ChatFault({{"n", 1.5}}), "n");
  EXPECT_EQ(ChatFault({{"max_tokens", 99999999999}}), "max_tokens");
  EXPECT_EQ(ChatFault({{"stop", 3}}), "stop");
  EXPECT_EQ(ChatFault({{"stream", "yes"}}), "stream");
  EXPECT_EQ(ChatFault({{"logit_bias", {{"x", 1}}}}), "logit_bias.x");
  EXPECT_EQ(ChatFault({{"logit_bias", {{"1", "x"}}}}), "logit_bias.1");
  EXPECT_EQ(ChatFault({{"logit_bias", {{"1", nullptr}}}}), "logit_bias.1");
  EXPECT_EQ(ChatFault({{"stream_options", {{"include_usage", true}}}}), "stream_options");
  EXPECT_EQ(ChatFault({{"top_logprobs", 3}}), "top_logprobs");
}

json Tool(const std::string& name) {
  return {{"type", "function"}, {"function", {{"name", name}, {"parameters", {{"type", "object"}}}}}};
}

TEST(ChatRequestTest, ToolsKeepTheOrderOfTheirKeys) {
  std::vector<std::string> ignored;
  const auto request = ParseBody(
      ReadChatCompletion,
      R"({"model":"m","messages":[{"role":"user","content":"hi"}],"z":{"tools":1},"tools":[{"type":"function","function":{"name":"f",)"
      R"("description":"d","parameters":{"type":"object","properties":{"b":{},"a":{}}}}}]})",
      &ignored);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_THAT(request->spec.prompt().chat().tool_schemas(),
              ElementsAre(R"({"type":"function","function":{"name":"f","description":"d","parameters":)"
                          R"({"type":"object","properties":{"b":{},"a":{}}}}})"));
  EXPECT_THAT(ignored, ElementsAre("z"));
  EXPECT_TRUE(ParseBody(ReadChatCompletion, Chat({{"tools", json::array()}}).dump()).ok());
}

TEST(ChatRequestTest, ToolsAreChosenOrLeftOut) {
  const json tools = {Tool("f"), Tool("g")};
  const auto chat = [](const json& more) {
    const auto request = ParseBody(ReadChatCompletion, Chat(more).dump());
    EXPECT_TRUE(request.ok()) << request.status();
    return request->spec.prompt().chat();
  };
  EXPECT_EQ(chat({{"tools", tools}, {"tool_choice", "auto"}}).tool_schemas_size(), 2);
  EXPECT_EQ(chat({{"tools", tools}, {"tool_choice", "none"}}).tool_schemas_size(), 0);
  const json named = {{"type", "function"}, {"function", {{"name", "g"}}}};
  EXPECT_EQ(chat({{"tools", tools}, {"tool_choice", named}}).forced_tool(), "g");
  EXPECT_TRUE(chat({{"tools", tools}, {"tool_choice", "required"}}).call_required());
  EXPECT_FALSE(chat({{"tools", tools}, {"tool_choice", named}}).call_required());
  EXPECT_FALSE(ParseBody(ReadChatCompletion, Chat({{"tools", tools}}).dump())->single_tool_call);
  EXPECT_TRUE(ParseBody(ReadChatCompletion, Chat({{"tools", tools}, {"parallel_tool_calls", false}}).dump())->single_tool_call);
}

TEST(ChatRequestTest, NamesWhatIsWrongWithATool) {
  EXPECT_EQ(ChatFault({{"tools", {{{"type", "function"}}}}}), "tools[0].function");
  EXPECT_EQ(ChatFault({{"tools", {{{"type", "web_search"}}}}}), "tools[0].type");
  EXPECT_EQ(ChatFault({{"tools", json::array({Tool("f"), Tool("")})}}), "tools[1].function.name");
  EXPECT_EQ(ChatFault({{"tools", json::array({Tool("a b")})}}), "tools[0].function.name");
  EXPECT_EQ(ChatFault({{"tools", json::array({Tool(std::string(65, 'a'))})}}), "tools[0].function.name");
  EXPECT_EQ(ChatFault({{"tools", std::vector<json>(129, Tool("f"))}}), "tools");
  json wide = Tool("f");
  for (int i = 0; i < 2000; ++i) wide["function"]["parameters"][std::to_string(i)] = i;
  EXPECT_EQ(ChatFault({{"tools", json::array({wide})}}), "tools");
  EXPECT_EQ(ChatFault({{"tools", json::array({Tool("f")})}, {"tool_choice", "always"}}), "tool_choice");
  EXPECT_EQ(ChatFault({{"tool_choice", "required"}}), "tool_choice");
  EXPECT_EQ(ChatFault({{"tool_choice", 3}}), "tool_choice");
  EXPECT_EQ(ChatFault({{"functions", {{{"name", "f"}}}}}), "functions");
}

TEST(ChatRequestTest, WhatNobodyKnowsIsToldNotHidden) {
  std::vector<std::string> ignored;
  const json some = Chat({{"user", "u"}, {"wonder", 1}, {"a\r\nb", 2}, {"metadata", json::object()}});
  ASSERT_TRUE(ParseBody(ReadChatCompletion, some.dump(), &ignored).ok());
  EXPECT_THAT(ignored, ElementsAre("a??b", "wonder"));
  json many = Chat();
  for (int i = 0; i < 100; ++i) many["x" + std::to_string(i)] = i;
  ASSERT_TRUE(ParseBody(ReadChatCompletion, many.dump(), &ignored).ok());
  EXPECT_EQ(ignored.size(), 16u);
}

TEST(TextRequestTest, ReadsPromptsAsTextOrIds) {
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text().dump())->spec.prompt().text(), "hi");
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text({{"prompt", {"hi"}}}).dump())->spec.prompt().text(), "hi");
  EXPECT_THAT(ParseBody(ReadTextCompletion, Text({{"prompt", {1, 2}}}).dump())->spec.prompt().token_ids().ids(),
              ElementsAre(1, 2));
  const json nested = json::array({json::array({1, 2})});
  EXPECT_THAT(ParseBody(ReadTextCompletion, Text({{"prompt", nested}}).dump())->spec.prompt().token_ids().ids(),
              ElementsAre(1, 2));
}

TEST(TextRequestTest, ReadsSeveralPrompts) {
  const auto texts = ParseBody(ReadTextCompletion, Text({{"prompt", {"a", "b", "c"}}}).dump());
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->spec.prompt().text(), "a");
  ASSERT_EQ(texts->more_prompts.size(), 2);
  EXPECT_EQ(texts->more_prompts[1].text(), "c");
  const json lists = json::array({json::array({1, 2}), json::array({3})});
  const auto ids = ParseBody(ReadTextCompletion, Text({{"prompt", lists}}).dump());
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(ids->spec.prompt().token_ids().ids(), ElementsAre(1, 2));
  EXPECT_THAT(ids->more_prompts.at(0).token_ids().ids(), ElementsAre(3));
  EXPECT_TRUE(ParseBody(ReadTextCompletion, Text().dump())->more_prompts.empty());
  EXPECT_EQ(TextFault({{"prompt", {"a", 3}}}), "prompt[1]");
  EXPECT_EQ(TextFault({{"prompt", json::array({json::array({1}), json::array()})}}), "prompt[1]");
  EXPECT_EQ(TextFault({{"prompt", json::array({json::array({1}), json::array({2, "x"})})}}), "prompt[1][1]");
  EXPECT_EQ(TextFault({{"prompt", std::vector<std::string>(129, "a")}}), "prompt");
}

TEST(TextRequestTest, DefaultsToSixteenTokens) {
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text().dump())->spec.stop().max_tokens(), 16);
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text({{"max_tokens", 3}}).dump())->spec.stop().max_tokens(), 3);
}

TEST(TextRequestTest, RefusesWhatItCannotDo) {
  EXPECT_EQ(TextFault({{"prompt", nullptr}}), "prompt");
  EXPECT_EQ(TextFault({{"prompt", json::array()}}), "prompt");
  EXPECT_EQ(TextFault({{"prompt", {1, "b"}}}), "prompt[1]");
  EXPECT_EQ(TextFault({{"prompt", 3}}), "prompt");
  EXPECT_EQ(TextFault({{"echo", true}, {"logprobs", 1}, {"suffix", "x"}}), "suffix");
  EXPECT_EQ(TextFault({{"max_tokens", 0}}), "max_tokens");
  EXPECT_EQ(TextFault({{"max_tokens", 0}, {"echo", true}}), "max_tokens");
  EXPECT_EQ(TextFault({{"max_tokens", -1}, {"echo", true}, {"logprobs", 0}}), "max_tokens");
  EXPECT_EQ(TextFault({{"prompt", {1, 2}}, {"suffix", "x"}}), "suffix");
  EXPECT_EQ(TextFault({{"suffix", 1}}), "suffix");
  EXPECT_EQ(TextFault({{"best_of", 3}}), "best_of");
  EXPECT_TRUE(ParseBody(ReadTextCompletion, Text({{"echo", false}, {"best_of", 1}, {"suffix", nullptr}}).dump()).ok());
}

TEST(TextRequestTest, ASuffixIsForEveryPromptToGoUpTo) {
  const auto request = ParseBody(ReadTextCompletion, Text({{"prompt", {"a", "b"}}, {"suffix", "z"}, {"echo", true}}).dump());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->spec.prompt().infill().prefix(), "a");
  EXPECT_EQ(request->spec.prompt().infill().suffix(), "z");
  ASSERT_EQ(request->more_prompts.size(), 1);
  EXPECT_EQ(request->more_prompts[0].infill().prefix(), "b");
  EXPECT_THAT(request->echoes, ElementsAre(Property(&v1::Prompt::text, "a"), Property(&v1::Prompt::text, "b")));
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text({{"suffix", ""}}).dump())->spec.prompt().text(), "hi") << "nothing to go up to";
}

TEST(TextRequestTest, AnEchoWithLogprobsAsksForThePrompts) {
  const json scored = {{"echo", true}, {"logprobs", 0}, {"max_tokens", 0}};
  const auto request = ParseBody(ReadTextCompletion, Text(scored).dump());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->spec.output().prompt_logprobs());
  EXPECT_EQ(request->spec.stop().max_tokens(), 0);
  EXPECT_FALSE(ParseBody(ReadTextCompletion, Text({{"logprobs", 0}}).dump())->spec.output().prompt_logprobs());
  EXPECT_FALSE(ParseBody(ReadTextCompletion, Text({{"echo", true}}).dump())->spec.output().prompt_logprobs());
}

TEST(TextRequestTest, EchoesItsPrompts) {
  const auto request =
      ParseBody(ReadTextCompletion, Text({{"prompt", {json("a"), json::array({1, 2})}}, {"echo", true}}).dump());
  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_EQ(request->echoes.size(), 2);
  EXPECT_EQ(request->echoes[0].text(), "a");
  EXPECT_THAT(request->echoes[1].token_ids().ids(), ElementsAre(1, 2));
  EXPECT_TRUE(ParseBody(ReadTextCompletion, Text().dump())->echoes.empty());
}

TEST(TextRequestTest, LogprobsIsANumber) {
  EXPECT_EQ(ParseBody(ReadTextCompletion, Text({{"logprobs", 0}}).dump())->spec.output().top_logprobs(), 0);
  EXPECT_EQ(TextFault({{"logprobs", true}}), "logprobs");
}

}  // namespace
}  // namespace berth::http
