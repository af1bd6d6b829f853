#include "worker/text/grammar/grammar.h"

#include <algorithm>
#include <map>

#include "worker/text/utf8.h"

namespace berth::text {

Grammar::ExprId Grammar::Literal(std::string_view text) {
  std::vector<ExprId> bytes;
  bytes.reserve(text.size());
  for (const char c : text) bytes.push_back(Byte(static_cast<uint8_t>(c), static_cast<uint8_t>(c)));
  return Sequence(std::move(bytes));
}

Grammar::ExprId Grammar::Sequence(std::vector<ExprId> parts) {
  return parts.size() == 1 ? parts[0] : Add({.kind = Kind::kSequence, .parts = std::move(parts)});
}

Grammar::ExprId Grammar::Choice(std::vector<ExprId> parts) {
  return parts.size() == 1 ? parts[0] : Add({.kind = Kind::kChoice, .parts = std::move(parts)});
}

Grammar::ExprId Grammar::Repeat(ExprId part, int least, int most) {
  return Add({.kind = Kind::kRepeat, .parts = {part}, .least = least, .most = most});
}

Grammar::ExprId Grammar::Refer(RuleId rule) { return Add({.kind = Kind::kRule, .rule = rule}); }

Grammar::ExprId Grammar::Automaton(std::vector<AutomatonState> states) {
  automata_.push_back(std::move(states));
  return Add({.kind = Kind::kAutomaton, .automaton = static_cast<int>(automata_.size()) - 1});
}

namespace {

// Splits until all characters of a piece have the same length and, but for the last bytes that vary freely, the same lead
// bytes.
void AddUtf8Range(int32_t low, int32_t high, std::vector<Grammar::ByteRanges>& choices) {
  for (const int32_t last : {0x7F, 0x7FF, 0xFFFF}) {
    if (low <= last && last < high) {
      AddUtf8Range(low, last, choices);
      return AddUtf8Range(last + 1, high, choices);
    }
  }
  for (int bits = 6; low > 0x7F && bits <= 18; bits += 6) {
    const int32_t mask = (1 << bits) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      AddUtf8Range(low, low | mask, choices);
      return AddUtf8Range((low | mask) + 1, high, choices);
    }
    if ((high & mask) != mask) {
      AddUtf8Range(low, (high & ~mask) - 1, choices);
      return AddUtf8Range(high & ~mask, high, choices);
    }
  }
  std::string first, last;
  AppendUtf8(low, first);
  AppendUtf8(high, last);
  Grammar::ByteRanges& bytes = choices.emplace_back();
  for (size_t i = 0; i < first.size(); ++i) bytes.push_back({static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i])});
}

}  // namespace

Grammar::ExprId Grammar::ChoiceOfBytes(std::vector<ByteRanges> choices) {
  std::map<ByteRanges::value_type, std::vector<ByteRanges>> by_last;
  for (ByteRanges& bytes : choices) {
    const ByteRanges::value_type last = bytes.back();
    bytes.pop_back();
    by_last[last].push_back(std::move(bytes));
  }
  std::vector<ExprId> parts;
  for (auto& [last, before] : by_last) {
    const ExprId byte = Byte(last.first, last.second);
    parts.push_back(before[0].empty() ? byte : Sequence({ChoiceOfBytes(std::move(before)), byte}));
  }
  return Choice(std::move(parts));
}

Grammar::ExprId Grammar::Characters(CodePoints ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<ByteRanges> choices;
  int32_t next = 0;  // the least code point that is not covered yet
  for (auto [low, high] : ranges) {
    low = std::max(low, next);
    high = std::min(high, kMaxCodePoint);
    if (low > high) continue;
    next = high + 1;
    if (low < 0xD800) AddUtf8Range(low, std::min(high, 0xD7FF), choices);
    if (high > 0xDFFF) AddUtf8Range(std::max(low, 0xE000), high, choices);
  }
  return ChoiceOfBytes(std::move(choices));
}

Grammar::CodePoints Grammar::Complement(CodePoints ranges) {
  std::sort(ranges.begin(), ranges.end());
  CodePoints rest;
  int32_t next = 0;
  for (const auto& [low, high] : ranges) {
    if (low > next) rest.push_back({next, low - 1});
    next = std::max(next, high + 1);
  }
  if (next <= kMaxCodePoint) rest.push_back({next, kMaxCodePoint});
  return rest;
}

}  // namespace berth::text
