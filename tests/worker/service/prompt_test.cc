#include "worker/service/prompt.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/rpc/status.h"
#include "worker/service/sim_model.h"
#include "worker/service/spec_check.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::service {
namespace {

v1::GenerationSpec Chat(std::vector<std::pair<std::string, std::string>> messages) {
  v1::GenerationSpec spec;
  for (const auto& [role, content] : messages) {
    v1::ChatMessage& message = *spec.mutable_prompt()->mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  }
  return spec;
}

class PromptTest : public testing::Test {
 protected:
  // Ends a turn as the core does.
  session::History After(const session::History& before, const PreparedPrompt& prompt, const std::string& answer, bool eos) {
    session::History after;
    after.tokens.assign(before.tokens.begin(), before.tokens.begin() + prompt.from_position);
    after.tokens.insert(after.tokens.end(), prompt.tokens.begin() + prompt.from_position, prompt.tokens.end());
    after.messages = prompt.messages;
    std::vector<int32_t> output = *model_.tokenizer->Encode(answer, {});
    if (eos) output.push_back(model_.eos_ids[0]);
    const int64_t begin = static_cast<int64_t>(prompt.tokens.size());
    after.tokens.insert(after.tokens.end(), output.begin(), output.end());
    after.messages.push_back(
        {.role = "assistant", .content = answer, .begin = begin, .end = static_cast<int64_t>(after.tokens.size())});
    return after;
  }

  const ServedModel model_ = *MakeSimModel("sim", 1000);
};

TEST_F(PromptTest, AnInteractiveTurnEqualsTheWholeConversation) {
  for (const bool eos : {true, false}) {  // false: cancelled or cut by length
    const session::History empty;
    const auto first = PreparePrompt(Chat({{"system", "be brief"}, {"user", "one"}}), &empty, model_);
    ASSERT_TRUE(first.ok()) << first.status();
    const session::History history = After(empty, *first, "erste", eos);
    const auto second = PreparePrompt(Chat({{"user", "two"}}), &history, model_);
    ASSERT_TRUE(second.ok());
    const auto whole = PreparePrompt(Chat({{"system", "be brief"}, {"user", "one"}, {"assistant", "erste"}, {"user", "two"}}),
                                     nullptr, model_);
    EXPECT_EQ(second->tokens, whole->tokens);
    // Everything of the history is kept: an answer that ended by itself with its end token, another up to its last token.
    EXPECT_EQ(second->from_position, static_cast<int64_t>(history.tokens.size()));
    ASSERT_EQ(second->messages.size(), 4);
    EXPECT_EQ(second->messages[3].end, static_cast<int64_t>(second->tokens.size()));
  }
}

std::string TextOf(const absl::StatusOr<PreparedPrompt>& prompt, const ServedModel& model) {
  EXPECT_TRUE(prompt.ok()) << prompt.status();
  return prompt.ok() ? model.tokenizer->Decode(prompt->tokens, false) : "";
}

TEST_F(PromptTest, ToolsAndTheirCallsReachTheTemplate) {
  v1::GenerationSpec spec = Chat({{"user", "hi"}, {"assistant", ""}, {"tool", "42"}});
  v1::ChatPrompt& chat = *spec.mutable_prompt()->mutable_chat();
  chat.add_tool_schemas(R"({"type": "function", "function": {"name": "f", "a": 1}})");
  v1::ToolCall& call = *chat.mutable_messages(1)->add_tool_calls();
  call.set_name("f");
  call.set_arguments(R"({"z": 1, "a": 2})");
  const std::string text = TextOf(PreparePrompt(spec, nullptr, model_), model_);
  EXPECT_THAT(text,
              testing::StartsWith("<msg>tools\n[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"a\": 1}}]<eos>"));
  EXPECT_THAT(text, testing::HasSubstr(R"(<tool_call>{"name": "f", "arguments": {"z": 1, "a": 2}}</tool_call>)"));
  chat.set_forced_tool("f");
  const auto forced = PreparePrompt(spec, nullptr, model_);
  EXPECT_EQ(TextOf(forced, model_), text + forced->opening);
  EXPECT_THAT(forced->opening, testing::HasSubstr("\"f\""));
  EXPECT_NE(forced->grammar, nullptr);
  chat.clear_forced_tool();
  chat.set_call_required(true);
  const auto any = PreparePrompt(spec, nullptr, model_);
  EXPECT_THAT(any->opening, testing::EndsWith("{\"name\": \""));
  EXPECT_NE(any->grammar, nullptr);
}

TEST_F(PromptTest, SaysWhatIsWrongWithTools) {
  v1::GenerationSpec spec = Chat({{"user", "hi"}});
  v1::ChatPrompt& chat = *spec.mutable_prompt()->mutable_chat();
  const auto fault = [&] {
    const absl::Status status = PreparePrompt(spec, nullptr, model_).status();
    return status.ok() ? "" : rpc::FieldViolations(status).front().first;
  };
  for (const char* schema : {"{", "3", "{}", R"({"function": 3})", R"({"function": {"name": 3}})"}) {
    chat.clear_tool_schemas();
    chat.add_tool_schemas(schema);
    EXPECT_EQ(fault(), "prompt.chat.tool_schemas") << schema;
  }
  chat.set_tool_schemas(0, R"({"function": {"name": "f"}})");
  EXPECT_EQ(fault(), "");
  chat.set_forced_tool("g");
  EXPECT_EQ(fault(), "prompt.chat.forced_tool");
  chat.set_forced_tool("f");
  chat.set_tool_schemas(0, R"({"function": {"name": "f", "strict": true, "parameters": {"not": {}}}})");
  EXPECT_EQ(fault(), "prompt.chat.tool_schemas");
  chat.clear_tool_schemas();
  chat.clear_forced_tool();
  chat.set_call_required(true);
  EXPECT_EQ(fault(), "prompt.chat.call_required");
}

TEST_F(PromptTest, ARewindIntoAnAnswerGoesOnFromItsKeptPart) {
  const session::History empty;
  const auto first = PreparePrompt(Chat({{"user", "one"}}), &empty, model_);
  const session::History history = After(empty, *first, "abcdef", true);
  const session::History cut = *session::HistoryAt(history, static_cast<int64_t>(first->tokens.size()) + 3);
  const auto second = PreparePrompt(Chat({{"user", "two"}}), &cut, model_);
  const auto whole = PreparePrompt(Chat({{"user", "one"}, {"assistant", "abc"}, {"user", "two"}}), nullptr, model_);
  EXPECT_EQ(second->tokens, whole->tokens);
}

TEST_F(PromptTest, MessagesLieWhereTheirTokensAre) {
  const session::History empty;
  const auto prompt = PreparePrompt(Chat({{"system", "s"}, {"user", "hello"}}), &empty, model_);
  ASSERT_EQ(prompt->messages.size(), 2);
  const auto system = PreparePrompt(Chat({{"system", "s"}}), nullptr, model_);
  const int64_t opening = static_cast<int64_t>(model_.tokenizer->Encode("<msg>assistant\n", {})->size());
  EXPECT_EQ(prompt->messages[0].begin, 0);
  EXPECT_GE(prompt->messages[0].end, static_cast<int64_t>(system->tokens.size()) - opening);
  EXPECT_EQ(prompt->messages[1].begin, prompt->messages[0].end);
  EXPECT_EQ(prompt->messages[1].end, static_cast<int64_t>(prompt->tokens.size()));
}

TEST_F(PromptTest, TextAndTokensAppendVerbatim) {
  session::History history;
  history.tokens = {5, 6, 7};
  history.messages = {{.content = "x", .begin = 0, .end = 3}};
  v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text("hi");
  const auto text = PreparePrompt(spec, &history, model_);
  EXPECT_THAT(text->tokens, testing::ElementsAre(5, 6, 7, 2 + 'h', 2 + 'i'));
  EXPECT_EQ(text->from_position, 3);
  spec.mutable_prompt()->mutable_token_ids()->add_ids(9);
  EXPECT_THAT(PreparePrompt(spec, &history, model_)->tokens, testing::ElementsAre(5, 6, 7, 9));
}

TEST_F(PromptTest, WhatTheTemplateRefusesIsABadRequest) {
  const absl::Status status = PreparePrompt(Chat({{"pirate", "arr"}}), nullptr, model_).status();
  ASSERT_EQ(rpc::FieldViolations(status).size(), 1) << status;
  EXPECT_EQ(rpc::FieldViolations(status)[0].first, "prompt.chat");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("pirate"));
}

TEST_F(PromptTest, InvalidUtf8IsABadRequest) {
  v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text("a\xff\xfe");
  const absl::Status status = PreparePrompt(spec, nullptr, model_).status();
  ASSERT_EQ(rpc::FieldViolations(status).size(), 1) << status;
  EXPECT_EQ(rpc::FieldViolations(status)[0].first, "prompt.text");
}

TEST_F(PromptTest, BadWordsAreTokenizedAloneAndAfterASpace) {
  v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text("x");
  spec.mutable_stop()->add_bad_words("ab");
  const auto prompt = PreparePrompt(spec, nullptr, model_);
  EXPECT_THAT(prompt->bad_words,
              testing::ElementsAre(testing::ElementsAre(2 + 'a', 2 + 'b'), testing::ElementsAre(2 + ' ', 2 + 'a', 2 + 'b')));
}

// A byte tokenizer whose model was taught to fill in.
ServedModel InfillModel() {
  text::TokenizerData data = text::SimTokenizerData();
  const auto add = [&data](const char* content) {
    data.added_tokens.push_back({.id = static_cast<int32_t>(data.pieces.size()), .content = content, .special = true});
    data.pieces.push_back(content);
  };
  for (const char* token : {"▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"}) add(token);
  ServedModel model{.name = "infill", .context_length = 1000};
  model.tokenizer = *text::MakeTokenizer(std::move(data));
  model.infill = text::FindInfillFormat(*model.tokenizer);
  return model;
}

TEST(InfillPromptTest, HasBothTextsAndAnEndOfItsOwn) {
  const ServedModel model = InfillModel();
  v1::GenerationSpec spec;
  spec.mutable_prompt()->mutable_infill()->set_prefix("ab");
  spec.mutable_prompt()->mutable_infill()->set_suffix("c");
  EXPECT_TRUE(CheckSpec(spec, model).ok());
  const auto prompt = PreparePrompt(spec, nullptr, model);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  const auto id = [&](const char* token) { return model.tokenizer->IdOf(token); };
  EXPECT_THAT(prompt->tokens, testing::ElementsAre(id("▁<PRE>"), 2 + 'a', 2 + 'b', id("▁<SUF>"), 2 + 'c', id("▁<MID>")));
  EXPECT_EQ(prompt->end_token, id("▁<EOT>"));
  EXPECT_TRUE(prompt->continues_text);
}

TEST_F(PromptTest, InfillingNeedsAModelThatWasTaughtTo) {
  v1::GenerationSpec spec;
  spec.mutable_prompt()->mutable_infill()->set_suffix("c");
  const absl::Status status = CheckSpec(spec, model_);
  ASSERT_EQ(rpc::FieldViolations(status).size(), 1) << status;
  EXPECT_EQ(rpc::FieldViolations(status)[0].first, "prompt.infill.suffix");
}

}  // namespace
}  // namespace berth::service
