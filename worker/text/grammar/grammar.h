#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace berth::text {

// A context-free grammar over bytes, as the parsers of the three syntaxes build it. Expressions live in the grammar and are
// named by their index; a rule is a named expression that others may refer to, also before it is defined and from within
// itself.
class Grammar {
 public:
  using ExprId = int;
  using RuleId = int;
  using CodePoints = std::vector<std::pair<int32_t, int32_t>>;  // inclusive ranges
  using ByteRanges = std::vector<std::pair<uint8_t, uint8_t>>;  // one after the other; inclusive

  enum class Kind { kBytes, kSequence, kChoice, kRepeat, kRule, kAutomaton };
  struct Expr {
    Kind kind;
    uint8_t low = 0, high = 0;  // kBytes: one byte in [low, high]
    std::vector<ExprId> parts;  // kSequence (none: the empty text), kChoice (none: nothing), kRepeat (one)
    int least = 0, most = 0;    // kRepeat; most -1: no limit
    RuleId rule = -1;           // kRule
    int automaton = -1;         // kAutomaton
  };
  struct AutomatonState {
    bool accepting = false;
    std::vector<std::pair<uint8_t, int>> next;  // a byte, and the state after it
  };
  struct Rule {
    std::string name;
    ExprId body = -1;
  };

  ExprId Literal(std::string_view text);
  // One character out of the ranges, as UTF-8; the surrogates are left out.
  ExprId Characters(CodePoints ranges);
  // All that are in none of the ranges.
  static CodePoints Complement(CodePoints ranges);
  ExprId Sequence(std::vector<ExprId> parts);
  ExprId Choice(std::vector<ExprId> parts);
  ExprId Repeat(ExprId part, int least, int most);
  ExprId Optional(ExprId part) { return Repeat(part, 0, 1); }
  ExprId Refer(RuleId rule);
  // The texts that lead from the first state to an accepting one. No state may be a dead end.
  ExprId Automaton(std::vector<AutomatonState> states);

  RuleId AddRule(std::string name) {
    rules_.push_back({std::move(name)});
    return static_cast<RuleId>(rules_.size()) - 1;
  }
  void Define(RuleId rule, ExprId body) { rules_[rule].body = body; }
  void set_root(RuleId rule) { root_ = rule; }

  const Expr& expr(ExprId id) const { return exprs_[id]; }
  bool MatchesNothing(ExprId id) const { return exprs_[id].kind == Kind::kChoice && exprs_[id].parts.empty(); }
  const std::vector<AutomatonState>& automaton(const Expr& expr) const { return automata_[expr.automaton]; }
  const std::vector<Rule>& rules() const { return rules_; }
  RuleId root() const { return root_; }

 private:
  ExprId Add(Expr expr) {
    exprs_.push_back(std::move(expr));
    return static_cast<ExprId>(exprs_.size()) - 1;
  }
  ExprId Byte(int low, int high) {
    return Add({.kind = Kind::kBytes, .low = static_cast<uint8_t>(low), .high = static_cast<uint8_t>(high)});
  }
  // Texts of UTF-8 characters. What ends alike ends in the same expression, so that a repeat of them stays small.
  ExprId ChoiceOfBytes(std::vector<ByteRanges> choices);

  std::vector<Expr> exprs_;
  std::vector<std::vector<AutomatonState>> automata_;
  std::vector<Rule> rules_;
  RuleId root_ = 0;
};

inline constexpr int32_t kMaxCodePoint = 0x10FFFF;

// The three syntaxes. INVALID_ARGUMENT names what is wrong or not supported, and where.

// A regular expression that the whole text must match: alternation, groups, classes with \d \w \s and their opposites (ASCII),
// quantifiers (lazy ones match the same texts), escapes. No assertions inside, references, or flags; ^ and $ may stand at the
// ends.
absl::StatusOr<Grammar> ParseRegex(std::string_view pattern);
// Appends a regular expression to a grammar that is being built: of the text, or of the text as it stands in a JSON string,
// with its escapes. There, control characters that have no escape of one letter do not occur.
enum class RegexOf { kText, kJsonString };
absl::StatusOr<Grammar::ExprId> AppendRegex(std::string_view pattern, Grammar& grammar, RegexOf of = RegexOf::kText);

// `name ::= …` lines with "strings", [classes], references, groups, * + ? {m,n}, | and # comments; the root rule is `root`.
absl::StatusOr<Grammar> ParseEbnf(std::string_view text);

// JSON that a schema describes; members in the order of `properties`. See json_schema.cc for the keywords; an unknown one that
// would restrict the value is an error that names its path.
absl::StatusOr<Grammar> ParseJsonSchema(std::string_view schema);
// Any JSON object.
Grammar JsonObjectGrammar();

}  // namespace berth::text
