#include "worker/text/grammar/json_rules.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/json_scan.h"

namespace berth::text {
namespace {

constexpr char kPlainCharacter[] = R"([^"\\\x00-\x1f]|\\["\\/bfnrt])";
// What follows \u: a character's number; both halves of one beyond the first 65,536.
constexpr char kEscape[] =
    R"([0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})";
constexpr char kNumber[] = R"(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)";
constexpr char kInteger[] = R"(0|-?[1-9][0-9]*)";

}  // namespace

JsonRules::JsonRules(Grammar& grammar) : grammar_(grammar) {
  space_ = Rule("space", "[ \\n\\r\\t]{0,16}");  // a model that likes blanks must get on
  escape_ = Rule("escape", kEscape);
  string_ = grammar_.AddRule("string");
  grammar_.Define(string_, StringOfLength(0, -1));
  number_ = Rule("number", kNumber);
  integer_ = Rule("integer", kInteger);
  value_ = grammar_.AddRule("value");
  object_ = grammar_.AddRule("object");
  array_ = grammar_.AddRule("array");
  grammar_.Define(object_, Braces("{", "}", grammar_.Optional(List(Member(String(), Value()), 0, -1))));
  grammar_.Define(array_, Braces("[", "]", grammar_.Optional(List(Value(), 0, -1))));
  grammar_.Define(value_, grammar_.Choice({Object(), Array(), String(), Number(), grammar_.Literal("true"),
                                           grammar_.Literal("false"), grammar_.Literal("null")}));
}

Grammar::RuleId JsonRules::Rule(std::string name, std::string_view pattern) {
  const Grammar::RuleId rule = grammar_.AddRule(std::move(name));
  grammar_.Define(rule, *AppendRegex(pattern, grammar_));
  return rule;
}

Grammar::ExprId JsonRules::Character() const {
  const ExprId number = grammar_.Sequence({grammar_.Literal("\\u"), grammar_.Refer(escape_)});
  return grammar_.Choice({*AppendRegex(kPlainCharacter, grammar_), number});
}

Grammar::ExprId JsonRules::StringOfLength(int least, int most) const {
  return grammar_.Sequence({grammar_.Literal("\""), grammar_.Repeat(Character(), least, most), grammar_.Literal("\"")});
}

Grammar::ExprId JsonRules::StringExcept(absl::Span<const std::string> strings) const {
  // Places in a string: between characters, after a backslash, and inside UTF-8, where the lead byte limits the next.
  enum Place { kBegin, kOpen, kEscape, kLast1, kLast2, kLast3, kAfterE0, kAfterEd, kAfterF0, kAfterF4, kEnd, kPlaces };
  struct Step {
    int low, high;
    Place to;
  };
  static const auto& steps = *new std::array<std::vector<Step>, kPlaces>{{
      {{'"', '"', kOpen}},
      {{0x20, 0x21, kOpen},
       {'"', '"', kEnd},
       {0x23, 0x5B, kOpen},
       {'\\', '\\', kEscape},
       {0x5D, 0x7F, kOpen},
       {0xC2, 0xDF, kLast1},
       {0xE0, 0xE0, kAfterE0},
       {0xE1, 0xEC, kLast2},
       {0xED, 0xED, kAfterEd},
       {0xEE, 0xEF, kLast2},
       {0xF0, 0xF0, kAfterF0},
       {0xF1, 0xF3, kLast3},
       {0xF4, 0xF4, kAfterF4}},
      {{'"', '"', kOpen},
       {'\\', '\\', kOpen},
       {'b', 'b', kOpen},
       {'f', 'f', kOpen},
       {'n', 'n', kOpen},
       {'r', 'r', kOpen},
       {'t', 't', kOpen}},
      {{0x80, 0xBF, kOpen}},
      {{0x80, 0xBF, kLast1}},
      {{0x80, 0xBF, kLast2}},
      {{0xA0, 0xBF, kLast1}},  // no character in more bytes than it needs,
      {{0x80, 0x9F, kLast1}},  // no surrogate,
      {{0x90, 0xBF, kLast2}},
      {{0x80, 0x8F, kLast2}},  // nothing above U+10FFFF
      {},
  }};
  // The first states are the places; the others are those of each begin of `strings`.
  std::vector<Grammar::AutomatonState> states(kPlaces);
  std::vector<Place> places;
  for (int i = 0; i < kPlaces; ++i) places.push_back(static_cast<Place>(i));
  const auto add_steps = [&](size_t state) {
    for (const Step& step : steps[places[state]]) {
      for (int byte = step.low; byte <= step.high; ++byte) states[state].next.emplace_back(static_cast<uint8_t>(byte), step.to);
    }
  };
  for (size_t i = 0; i < kPlaces; ++i) add_steps(i);
  states[kEnd].accepting = true;
  for (const std::string& text : strings) {
    size_t at = kBegin;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      const auto step =
          std::find_if(states[at].next.begin(), states[at].next.end(), [&](const auto& one) { return one.first == byte; });
      if (step == states[at].next.end()) break;  // escaped by its number, or a string that was there before
      if (i + 1 == text.size()) {
        states[at].next.erase(step);
      } else if (at = step->second; at < kPlaces) {
        places.push_back(places[at]);
        step->second = static_cast<int>(states.size());
        at = states.size();
        states.emplace_back();
        add_steps(at);
      }
    }
  }
  return grammar_.Automaton(std::move(states));
}

Grammar::ExprId JsonRules::Braces(std::string_view open, std::string_view close, ExprId inside) const {
  return grammar_.Sequence({grammar_.Literal(open), Space(), inside, grammar_.Literal(close)});
}

Grammar::ExprId JsonRules::Member(ExprId name, ExprId value) const {
  return grammar_.Sequence({name, Space(), grammar_.Literal(":"), Space(), value, Space()});
}

Grammar::ExprId JsonRules::List(ExprId item, int least, int most) const {
  const ExprId spaced = grammar_.Sequence({item, Space()});
  const ExprId more = grammar_.Sequence({Comma(), spaced});
  return grammar_.Sequence({spaced, grammar_.Repeat(more, std::max(least - 1, 0), most < 0 ? -1 : most - 1)});
}

absl::Status CheckSize(std::string_view json) {
  constexpr int kMaxNesting = 256, kMaxMembers = 20'000;
  int depth = 0, members = 0;
  base::ScanJson(json, [&](char c) {
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    members += c == ':';
    return depth <= kMaxNesting && members <= kMaxMembers;
  });
  if (depth > kMaxNesting) return absl::InvalidArgumentError(absl::StrCat("JSON nested deeper than ", kMaxNesting, " levels"));
  if (members > kMaxMembers)
    return absl::InvalidArgumentError(absl::StrCat("JSON with more than ", kMaxMembers, " members of objects"));
  return absl::OkStatus();
}

Grammar::ExprId JsonRules::Named(std::string name, ExprId expr) const {
  const Grammar::RuleId rule = grammar_.AddRule(std::move(name));
  grammar_.Define(rule, expr);
  return grammar_.Refer(rule);
}

}  // namespace berth::text
