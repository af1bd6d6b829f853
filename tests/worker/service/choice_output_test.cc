#include "worker/service/choice_output.h"

#include <random>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/service/sim_model.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::service {
namespace {

using Ids = text::SimVocabulary;

std::vector<int32_t> RandomOutput(uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = Ids::kFirstPiece + static_cast<int32_t>(random() % (Ids::kEnd - Ids::kFirstPiece));
  return tokens;
}

struct Seen {
  std::string text;
  std::vector<int32_t> tokens;
  int logprobs = 0;
};

void Take(ChoiceOutput& output, int64_t budget, bool end, Seen* seen) {
  while (output.has_unsent(end)) {
    v1::Delta delta;
    int64_t left = budget;
    output.TakeDelta(&left, &delta);
    EXPECT_EQ(delta.first_token_index(), static_cast<int>(seen->tokens.size()));
    seen->text += delta.text();
    seen->tokens.insert(seen->tokens.end(), delta.token_ids().begin(), delta.token_ids().end());
    seen->logprobs += delta.logprobs_size();
  }
}

class ChoiceOutputTest : public testing::Test {
 protected:
  const ServedModel model_ = *MakeSimModel("sim", 1000);
  const text::Tokenizer& tokenizer_ = *model_.tokenizer;
};

TEST_F(ChoiceOutputTest, DeltasOfAnySizeMakeTheSameText) {
  const std::vector<int32_t> tokens = RandomOutput(7, 300);
  const std::string whole = tokenizer_.Decode(tokens, true);
  for (const int64_t budget : {1, 100, 1000, 1 << 20}) {
    for (const int piece : {1, 3, 300}) {
      ChoiceOutput output(tokenizer_, {.logprobs = true}, {});
      Seen seen;
      for (int i = 0; i < 300; i += piece) {
        EXPECT_FALSE(output.Append(absl::MakeSpan(tokens).subspan(i, piece), {}, false));
        Take(output, budget, false, &seen);
      }
      output.Finish();
      Take(output, budget, true, &seen);
      EXPECT_EQ(seen.text, whole) << budget << " " << piece;
      EXPECT_EQ(seen.tokens, tokens);
      EXPECT_EQ(seen.logprobs, 300);
    }
  }
}

TEST_F(ChoiceOutputTest, AStopStringAcrossTokensEndsTheOutputAndNeverLeaks) {
  std::vector<int32_t> tokens;
  for (const char c : std::string("one STOP two")) tokens.push_back(Ids::kFirstByte + static_cast<unsigned char>(c));
  ChoiceOutput output(tokenizer_, {.stop_strings = {"STOP"}}, {});
  Seen seen;
  bool stopped = false;
  for (size_t i = 0; i < tokens.size() && !stopped; ++i) {
    stopped = output.Append(absl::MakeSpan(tokens).subspan(i, 1), {}, false);
    Take(output, 1000, false, &seen);
    EXPECT_EQ(std::string("one ").find(seen.text), 0) << seen.text;
  }
  EXPECT_TRUE(stopped);
  EXPECT_EQ(seen.text, "one ");
  EXPECT_EQ(output.size(), 8);
  EXPECT_EQ(output.matched_stop(), "STOP");
}

TEST_F(ChoiceOutputTest, TokensAfterAStopStringInOneUpdateAreDropped) {
  std::vector<int32_t> tokens;
  for (const char c : std::string("aENDbcd")) tokens.push_back(Ids::kFirstByte + static_cast<unsigned char>(c));
  ChoiceOutput output(tokenizer_, {.include_stop = true, .stop_strings = {"END"}}, {});
  EXPECT_TRUE(output.Append(tokens, {}, false));
  EXPECT_EQ(output.size(), 4);
  EXPECT_EQ(output.text(), "aEND");
}

TEST_F(ChoiceOutputTest, AStopTokenHasNoText) {
  const std::vector<int32_t> tokens = {Ids::kFirstByte + 'a', Ids::kFirstByte + 'b'};
  ChoiceOutput output(tokenizer_, {}, {});
  EXPECT_FALSE(output.Append(tokens, {}, true));
  output.Finish();
  EXPECT_EQ(output.text(), "a");
  EXPECT_EQ(output.size(), 2);
}

// At every cut, what a peer with so many tokens has and what it is sent then make the undisturbed output.
TEST_F(ChoiceOutputTest, AnyResumePointContinuesSeamlessly) {
  const std::vector<int32_t> tokens = RandomOutput(11, 60);
  const OutputRules rules{.stop_strings = {"STOP!", "never"}};
  ChoiceOutput whole(tokenizer_, rules, {});
  ASSERT_FALSE(whole.Append(tokens, {}, false));
  whole.Finish();
  for (int cut = 0; cut <= 60; ++cut) {
    ChoiceOutput first(tokenizer_, rules, {});
    first.Append(absl::MakeSpan(tokens).subspan(0, cut), {}, false);
    Seen seen;
    Take(first, 40, false, &seen);
    ChoiceOutput second(tokenizer_, rules, {});
    second.Append(absl::MakeSpan(tokens).subspan(0, cut), {}, false);
    second.SetSent(cut);
    EXPECT_FALSE(second.has_unsent(false));
    second.Append(absl::MakeSpan(tokens).subspan(cut), {}, false);
    second.Finish();
    Take(second, 40, true, &seen);
    EXPECT_EQ(seen.text, whole.text()) << "cut at " << cut;
    EXPECT_EQ(seen.tokens, tokens);
  }
}

std::vector<int32_t> Spelled(const std::string& text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(Ids::kFirstByte + static_cast<unsigned char>(c));
  return tokens;
}

// Adds what a caller gathers from deltas.
void TakeContent(ChoiceOutput& output, int64_t budget, bool end, std::string* seen) {
  while (output.has_unsent(end)) {
    v1::Delta delta;
    int64_t left = budget;
    output.TakeDelta(&left, &delta);
    if (delta.has_text()) *seen += "T:" + delta.text();
    if (delta.has_reasoning()) *seen += "R:" + delta.reasoning();
    const v1::ToolCallDelta& call = delta.tool_call();
    if (!call.id().empty()) *seen += "C:" + call.id() + call.name();
    if (!call.arguments_delta().empty()) *seen += "A:" + call.arguments_delta();
  }
}

// The kinds' marks, once for each run of one kind.
std::string Joined(const std::string& seen) {
  std::string joined, kind;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (i + 1 < seen.size() && seen[i + 1] == ':' && absl::StrContains("TRCA", seen[i])) {
      if (kind != seen.substr(i, 2)) joined += seen.substr(i, 2);
      kind = seen.substr(i++, 2);
    } else {
      joined += seen[i];
    }
  }
  return joined;
}

TEST_F(ChoiceOutputTest, CallsGoOnAlikeFromAnyResumePoint) {
  const std::vector<int32_t> tokens = Spelled(
      "<think>so</think> ok <tool_call>{\"name\" \"no\"</tool_call><tool_call>{\"name\": \"f\", \"arguments\": {\"x\" "
      ":1}}</tool_call>"
      "<tool_call>{\"name\": \"g\"}</tool_call> end ");
  const OutputRules rules{.content = {.format = {.tools = text::ToolFormat::kHermes, .reasoning = true}, .call_seed = 7}};
  std::string want;
  ChoiceOutput whole(tokenizer_, rules, {});
  whole.Append(tokens, {}, false);
  whole.Finish();
  TakeContent(whole, 1 << 20, true, &want);
  want = Joined(want);
  EXPECT_TRUE(whole.has_calls());
  EXPECT_THAT(want, testing::MatchesRegex("R:soT:ok <tool_call>.*</tool_call>C:.........fA:.\"x\" :1.C:.........gA:..T:end ?"));
  for (int cut = 0; cut <= whole.size(); ++cut) {
    ChoiceOutput first(tokenizer_, rules, {}), second(tokenizer_, rules, {});
    first.Append(absl::MakeSpan(tokens).subspan(0, cut), {}, false);
    std::string seen;
    TakeContent(first, 40, false, &seen);
    second.Append(absl::MakeSpan(tokens).subspan(0, cut), {}, false);
    second.SetSent(cut);
    second.Append(absl::MakeSpan(tokens).subspan(cut), {}, false);
    second.Finish();
    TakeContent(second, 40, true, &seen);
    EXPECT_EQ(Joined(seen), want) << "cut at " << cut;
  }
}

TEST_F(ChoiceOutputTest, AForcedCallBeginsInThePrompt) {
  ContentRules content{.format = {.tools = text::ToolFormat::kHermes},
                       .opening = "<tool_call>{\"name\": \"f\", \"arguments\":"};
  ChoiceOutput output(tokenizer_, {.content = content}, {});
  output.Append(Spelled(" {\"x\": 1}}</tool_call>"), {}, false);
  output.Finish();
  std::string seen;
  TakeContent(output, 1000, true, &seen);
  EXPECT_THAT(Joined(seen), testing::MatchesRegex("C:.........fA:.\"x\": 1."));
}

TEST_F(ChoiceOutputTest, TruncationForgetsWhatWasNotSent) {
  const std::vector<int32_t> tokens = RandomOutput(13, 20);
  ChoiceOutput output(tokenizer_, {}, {});
  output.Append(absl::MakeSpan(tokens).subspan(0, 12), {}, false);
  Seen seen;
  Take(output, 1000, false, &seen);
  output.Append(absl::MakeSpan(tokens).subspan(12), {}, false);
  output.Truncate(output.sent_tokens());
  EXPECT_EQ(output.size(), 12);
  EXPECT_EQ(output.text(), seen.text);
  EXPECT_FALSE(output.has_unsent(true));
}

}  // namespace
}  // namespace berth::service
