#include "worker/text/pre_tokenizer.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "base/status.h"

namespace berth::text {
namespace {

struct Piece {
  size_t begin;
  size_t end;
  bool is_match;
};

// Covers the text with matches and what lies between them.
std::vector<Piece> Cover(absl::Span<const std::pair<size_t, size_t>> matches, size_t size, bool invert) {
  std::vector<Piece> pieces;
  size_t at = 0;
  for (const auto& [begin, end] : matches) {
    if (at < begin) pieces.push_back({at, begin, invert});
    pieces.push_back({begin, end, !invert});
    at = end;
  }
  if (at < size) pieces.push_back({at, size, invert});
  return pieces;
}

// Appends the words of one text, given its cover.
void Join(const std::vector<Piece>& pieces, SplitBehavior behavior, std::string_view text, std::vector<std::string_view>& out) {
  const size_t first = out.size();
  bool before = false;  // whether the piece before was a match
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto [begin, end, is_match] = pieces[i];
    bool join = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (is_match) continue;
        break;
      case SplitBehavior::kIsolated:
        break;
      case SplitBehavior::kMergedWithPrevious:
        join = is_match && !before;
        break;
      case SplitBehavior::kMergedWithNext:
        join = before && !is_match;
        break;
      case SplitBehavior::kContiguous:
        join = is_match == before;
        break;
    }
    if (join && out.size() > first) {
      out.back() = std::string_view(out.back().data(), out.back().size() + (end - begin));
    } else {
      out.push_back(text.substr(begin, end - begin));
    }
    before = is_match;
  }
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Make(std::vector<PreTokenizerStep> steps) {
  PreTokenizer result;
  for (const PreTokenizerStep& step : steps) {
    if (step.kind != PreTokenizerStep::Kind::kSplit) continue;
    BERTH_ASSIGN_OR_RETURN(Matcher matcher, Matcher::Compile(step.pattern));
    result.matchers_.push_back(std::move(matcher));
  }
  result.steps_ = std::move(steps);
  return result;
}

absl::StatusOr<Words> PreTokenizer::Split(std::string_view text, bool at_start) const {
  Words words{.words = {text}};
  size_t next_matcher = 0;
  for (const PreTokenizerStep& step : steps_) {
    if (step.kind == PreTokenizerStep::Kind::kPrefix) {
      ApplyPrefix(step, at_start, words);
    } else {
      BERTH_RETURN_IF_ERROR(ApplySplit(step, matchers_[next_matcher++], words));
    }
  }
  return words;
}

absl::Status PreTokenizer::ApplySplit(const PreTokenizerStep& step, const Matcher& matcher, Words& words) {
  std::vector<std::string_view> out;
  Matcher::Scan scan(matcher);
  for (std::string_view word : words.words) {
    BERTH_ASSIGN_OR_RETURN(const auto matches, scan.FindAll(word));
    Join(Cover(matches, word.size(), step.invert), step.behavior, word, out);
  }
  words.words = std::move(out);
  return absl::OkStatus();
}

void PreTokenizer::ApplyPrefix(const PreTokenizerStep& step, bool at_start, Words& words) {
  for (size_t i = 0; i < words.words.size(); ++i) {
    std::string word(words.words[i]);
    if (!step.replace_spaces.empty()) word = absl::StrReplaceAll(word, {{" ", step.replace_spaces}});
    const bool wanted = !step.first_only || (at_start && i == 0);
    if (wanted && !word.starts_with(step.prefix)) word.insert(0, step.prefix);
    words.words[i] = words.owned.emplace_back(std::move(word));
  }
}

}  // namespace berth::text
