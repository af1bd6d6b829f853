#include "worker/text/stop_matcher.h"

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace berth::text {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> match;
  size_t match_end = 0;
};

Outcome Feed(StopMatcher& matcher, const std::vector<std::string>& pieces) {
  Outcome outcome;
  for (const std::string& piece : pieces) {
    StopMatcher::Result result = matcher.Append(piece);
    outcome.text += result.text;
    if (!result.match) continue;
    outcome.match = result.match;
    outcome.match_end = result.match_end;
    return outcome;
  }
  outcome.text += matcher.Finish();
  return outcome;
}

// The definition, taken literally: the earliest end wins, and at that end the longest.
Outcome Define(const std::vector<std::string>& stops, bool include_stop, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::string> best;
    for (const std::string& stop : stops) {
      const bool ends_here = !stop.empty() && text.substr(0, end).ends_with(stop);
      if (ends_here && (!best || stop.size() > best->size())) best = stop;
    }
    if (best) return {text.substr(0, include_stop ? end : end - best->size()), best, end};
  }
  return {text, std::nullopt, 0};
}

TEST(StopMatcherTest, WithoutStopsEverythingIsFinalAtOnce) {
  StopMatcher matcher({"", ""}, false);
  EXPECT_EQ(matcher.Append("anything").text, "anything");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, FindsAStopAcrossPieces) {
  StopMatcher matcher({"STOP"}, false);
  EXPECT_EQ(matcher.Append("go S").text, "go ");
  EXPECT_EQ(matcher.Append("TO").text, "");
  const StopMatcher::Result result = matcher.Append("P now");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.match, "STOP");
  EXPECT_EQ(result.match_end, 7u);
}

TEST(StopMatcherTest, ReleasesWhatTurnsOutToBeNoStop) {
  StopMatcher matcher({"STOP"}, false);
  EXPECT_EQ(matcher.Append("ST").text, "");
  EXPECT_EQ(matcher.Append("ST").text, "ST");
  EXPECT_EQ(matcher.Append("ay").text, "STay");
}

TEST(StopMatcherTest, FinishReturnsWhatWasHeldBack) {
  StopMatcher matcher({"\n\nUser:"}, false);
  EXPECT_EQ(matcher.Append("bye\n\nUs").text, "bye");
  EXPECT_EQ(matcher.Finish(), "\n\nUs");
}

TEST(StopMatcherTest, IncludesTheStopWhenAsked) {
  StopMatcher matcher({"END"}, true);
  EXPECT_EQ(matcher.Append("the E").text, "the ");
  const StopMatcher::Result result = matcher.Append("ND.");
  EXPECT_EQ(result.text, "END");
  EXPECT_EQ(result.match_end, 7u);
}

TEST(StopMatcherTest, TheEarliestEndWinsThenTheLongest) {
  StopMatcher shorter({"abcd", "bc"}, false);
  EXPECT_EQ(shorter.Append("abcd").match, "bc");
  StopMatcher longer({"c", "abc", "bc"}, false);
  const StopMatcher::Result result = longer.Append("xabc");
  EXPECT_EQ(result.match, "abc");
  EXPECT_EQ(result.text, "x");
}

TEST(StopMatcherTest, HoldsNothingOfALongStopThatCannotFollow) {
  const std::string stop(100'000, 'a');
  StopMatcher matcher({stop + "b"}, false);
  EXPECT_EQ(matcher.Append(stop).text, "");
  EXPECT_EQ(matcher.Append("a").text, "a");  // the start moved on by one
  EXPECT_EQ(matcher.Append("x").text, stop + "x");
}

TEST(StopMatcherTest, IsItsDefinitionOnRandomTextInRandomPieces) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto draw = [&](int n) { return static_cast<int>(random() % n); };
    const auto word = [&](int longest) {
      std::string out;
      for (int i = draw(longest + 1); i > 0; --i) out += "ab\n"[draw(3)];
      return out;
    };
    std::vector<std::string> stops;
    for (int i = 1 + draw(4); i > 0; --i) stops.push_back(word(7));
    const std::string text = word(60);
    const bool include_stop = draw(2) == 0;
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size(); at += pieces.back().size()) pieces.push_back(text.substr(at, 1 + draw(5)));

    StopMatcher matcher(stops, include_stop);
    const Outcome got = Feed(matcher, pieces);
    const Outcome want = Define(stops, include_stop, text);
    EXPECT_EQ(got.text, want.text);
    EXPECT_EQ(got.match, want.match);
    EXPECT_EQ(got.match_end, want.match_end);
  }
}

}  // namespace
}  // namespace berth::text
