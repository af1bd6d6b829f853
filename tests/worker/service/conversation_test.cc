// Turn by turn, the prompt of an interactive session is that of the whole conversation sent at once (rule 5).
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/service/choice_output.h"
#include "worker/service/prompt.h"

namespace berth::service {
namespace {

constexpr char kFamilies[] = "tests/golden/templates/families";

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  std::error_code error;  // none when run from elsewhere
  for (const auto& entry : std::filesystem::directory_iterator(kFamilies, error)) names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<text::Tokenizer> GoldenTokenizer(const std::string& name) {
  auto data = name.starts_with("sp_") ? loader::ParseSentencePiece(text::ReadGolden(name + ".model"), "")
                                      : loader::ParseTokenizerJson(text::ReadGolden(name + ".json"), "");
  EXPECT_TRUE(data.ok()) << data.status();
  auto tokenizer = text::MakeTokenizer(*std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// How a model may answer. Its text need not encode to the tokens that it was made of.
enum class Answer { kWhole, kCancelled, kLength, kOtherTokens, kHalfCharacter, kThinking, kBlank, kNoise };
enum class End { kStopToken, kCancel, kLength };

// One caller's session, and the conversation as the caller has it.
class Session {
 public:
  explicit Session(const ServedModel& model) : model_(model) {}

  struct Position {
    int64_t told = 0;
    size_t messages = 0;  // that the caller has at this point
  };

  // Expects the prompt of the whole conversation. False when the template refuses that conversation, here as there.
  bool Ask(std::vector<text::ChatMessage> added) {
    std::vector<text::ChatMessage> whole = conversation_;
    whole.insert(whole.end(), added.begin(), added.end());
    const auto at_once = PreparePrompt(SpecOf(whole), nullptr, model_);
    auto turn = PreparePrompt(SpecOf(added), &history_, model_);
    EXPECT_EQ(turn.ok(), at_once.ok()) << turn.status() << at_once.status();
    if (!turn.ok() || !at_once.ok()) return false;
    EXPECT_EQ(turn->tokens, at_once->tokens);
    EXPECT_TRUE(std::equal(history_.tokens.begin(), history_.tokens.begin() + turn->from_position, turn->tokens.begin()));
    EXPECT_EQ(turn->messages.size(), whole.size());
    conversation_ = std::move(whole);
    prompt_ = *std::move(turn);
    started_.push_back({static_cast<int64_t>(prompt_.tokens.size()), conversation_.size()});
    return true;
  }

  // As GenerationCore ends a turn.
  void Reply(const std::vector<int32_t>& tokens, End end) {
    ChoiceOutput output(*model_.tokenizer, {}, {});
    output.Append(tokens, {}, end == End::kStopToken);
    if (end != End::kCancel) output.Finish();
    const int64_t begin = static_cast<int64_t>(prompt_.tokens.size());
    const int64_t length = begin + output.size();
    history_.tokens = prompt_.tokens;
    history_.tokens.insert(history_.tokens.end(), tokens.begin(), tokens.end());
    history_.messages = prompt_.messages;
    history_.messages.push_back({.role = "assistant", .content = output.text(), .begin = begin, .end = length, .told = length});
    conversation_.push_back({"assistant", output.text()});
    finished_.push_back({length, conversation_.size()});
  }

  // The same number was told once more, later: then that is what it means.
  bool ToldAgain(const Position& position) const {
    return std::any_of(history_.messages.begin() + static_cast<ptrdiff_t>(position.messages), history_.messages.end(),
                       [&](const session::Message& message) { return message.told == position.told; });
  }
  void Rewind(const Position& position) {
    const auto earlier = session::HistoryAt(history_, position.told);
    ASSERT_TRUE(earlier.has_value());
    history_ = *earlier;
    conversation_.resize(position.messages);
  }
  // Into the last answer, after `count` of its tokens.
  void RewindInto(int count) {
    const session::Message& last = history_.messages.back();
    ChoiceOutput kept(*model_.tokenizer, {}, {});
    kept.Append(absl::MakeSpan(history_.tokens).subspan(last.begin, count), {}, false);
    conversation_.back().content = kept.text();
    history_ = *session::HistoryAt(history_, last.begin + count);
  }

  const std::vector<Position>& started() const { return started_; }
  const std::vector<Position>& finished() const { return finished_; }

 private:
  static v1::GenerationSpec SpecOf(const std::vector<text::ChatMessage>& messages) {
    v1::GenerationSpec spec;
    spec.mutable_template_clock()->set_seconds(1700000000);
    for (const text::ChatMessage& message : messages) {
      v1::ChatMessage& out = *spec.mutable_prompt()->mutable_chat()->add_messages();
      out.set_role(message.role);
      out.set_content(message.content);
    }
    return spec;
  }

  const ServedModel& model_;
  session::History history_;
  std::vector<text::ChatMessage> conversation_;
  PreparedPrompt prompt_;
  std::vector<Position> started_, finished_;
};

using Parameters = std::tuple<std::string, std::string>;

class ConversationTest : public testing::TestWithParam<Parameters> {
 protected:
  void SetUp() override {
    const auto& [family, tokenizer] = GetParam();
    model_.tokenizer = GoldenTokenizer(tokenizer);
    eos_ = model_.tokenizer->eos_id();
    for (int32_t id = 0; eos_ < 0 && id < model_.tokenizer->size(); ++id) {
      if (model_.tokenizer->IsSpecial(id)) eos_ = id;
    }
    const std::string eos(model_.tokenizer->TokenBytes(eos_, true));
    auto parsed = text::ParseChatTemplate(ReadFile(std::filesystem::path(kFamilies) / (family + ".jinja")), "<s>", eos);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    model_.chat_template = *std::move(parsed);
    model_.context_length = 100000;
  }

  std::vector<int32_t> Encode(const std::string& text) const {
    return *model_.tokenizer->Encode(text, {.add_special = false, .parse_special = false});
  }

  void Reply(Session& session, Answer answer) const {
    const std::string text = " Grüße, wörld!\n  It is 5½ o'clock, isn't it? 世界 👩‍👩‍👧 ";
    std::vector<int32_t> tokens = Encode(text);
    switch (answer) {
      case Answer::kWhole:
        tokens.push_back(eos_);
        return session.Reply(tokens, End::kStopToken);
      case Answer::kCancelled:
      case Answer::kLength:
        tokens.resize(tokens.size() / 2);
        return session.Reply(tokens, answer == Answer::kLength ? End::kLength : End::kCancel);
      case Answer::kOtherTokens:
        tokens.clear();
        for (const char c : std::string("Hello there, hello there")) {
          for (const int32_t id : Encode(std::string(1, c))) tokens.push_back(id);
        }
        tokens.push_back(eos_);
        return session.Reply(tokens, End::kStopToken);
      case Answer::kHalfCharacter: {
        const std::vector<int32_t> family = Encode("👩‍👩‍👧");
        tokens.insert(tokens.end(), family.begin(), family.begin() + 1);
        return session.Reply(tokens, End::kLength);
      }
      case Answer::kThinking:
        tokens = Encode("<think>\nLet me see.\n</think>\n\nIt is five.");
        tokens.push_back(eos_);
        return session.Reply(tokens, End::kStopToken);
      case Answer::kBlank:
        return session.Reply(Encode(" \n\n"), End::kLength);
      case Answer::kNoise:
        tokens.clear();
        for (uint32_t i = 1; i <= 24; ++i) {
          const int32_t id = static_cast<int32_t>(i * 2654435761u % static_cast<uint32_t>(model_.tokenizer->size()));
          if (!model_.tokenizer->IsSpecial(id)) tokens.push_back(id);
        }
        return session.Reply(tokens, End::kLength);
    }
  }

  static constexpr Answer kAnswers[] = {Answer::kWhole,         Answer::kCancelled, Answer::kLength, Answer::kOtherTokens,
                                        Answer::kHalfCharacter, Answer::kThinking,  Answer::kBlank,  Answer::kNoise};
  ServedModel model_;
  int32_t eos_ = -1;
};

TEST_P(ConversationTest, EveryTurnIsTheWholeConversation) {
  for (const bool system : {false, true}) {
    for (const Answer first : kAnswers) {
      for (const Answer second : kAnswers) {
        SCOPED_TRACE(testing::Message() << "system " << system << ", answers " << int(first) << ", " << int(second));
        Session session(model_);
        std::vector<text::ChatMessage> opening = {{"user", "Hello! "}};
        if (system) opening.insert(opening.begin(), {"system", "Be brief.\n"});
        if (!session.Ask(opening)) continue;
        Reply(session, first);
        ASSERT_TRUE(session.Ask({{"user", " What time is it?\n"}}));
        Reply(session, second);
        ASSERT_TRUE(session.Ask({{"user", "再见"}}));
      }
    }
  }
}

TEST_P(ConversationTest, ARewindGoesBackToWhatTheCallerHadThen) {
  for (const Answer answer : kAnswers) {
    for (int to = 0; to < 4; ++to) {
      SCOPED_TRACE(testing::Message() << "answers " << int(answer) << ", back to " << to);
      Session session(model_);
      for (const char* question : {"one", "two", "three"}) {
        ASSERT_TRUE(session.Ask({{"user", question}}));
        Reply(session, answer);
      }
      const Session::Position& position = to % 2 == 0 ? session.finished()[to / 2] : session.started()[to / 2];
      if (session.ToldAgain(position)) continue;
      session.Rewind(position);
      // After a question without an answer comes another question, which some templates refuse.
      if (session.Ask({{"user", "four"}})) Reply(session, answer);
    }
  }
}

TEST_P(ConversationTest, ARewindIntoAnAnswerKeepsItsFirstPart) {
  for (const int count : {1, 2, 5, 9}) {
    SCOPED_TRACE(count);
    Session session(model_);
    for (const char* question : {"one", "two"}) {
      ASSERT_TRUE(session.Ask({{"user", question}}));
      Reply(session, Answer::kWhole);
    }
    session.RewindInto(count);
    ASSERT_TRUE(session.Ask({{"user", "three"}}));
    Reply(session, Answer::kWhole);
    ASSERT_TRUE(session.Ask({{"user", "four"}}));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ConversationTest,
                         testing::Combine(testing::ValuesIn(FamilyNames()),
                                          testing::Values("smollm", "qwen2", "llama3", "llama2", "metaspace", "sp_bpe",
                                                          "sp_unigram")),
                         [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

}  // namespace
}  // namespace berth::service
