#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/text/grammar/grammar.h"
#include "worker/text/grammar/syntax_reader.h"

namespace berth::text {
namespace {

constexpr std::pair<int32_t, const char*> kJsonEscapes[] = {{'"', R"(\")"},  {'\\', R"(\\)"}, {'\b', R"(\b)"}, {'\f', R"(\f)"},
                                                            {'\n', R"(\n)"}, {'\r', R"(\r)"}, {'\t', R"(\t)"}};

class RegexParser {
 public:
  RegexParser(std::string_view pattern, Grammar& grammar, RegexOf of)
      : reader_("regular expression", pattern), grammar_(grammar), of_(of) {}

  absl::StatusOr<Grammar::ExprId> Parse() {
    reader_.Take("^");
    BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId all, Alternatives(0));
    if (!reader_.AtEnd()) return reader_.Error("a ')' without its '('");
    return all;
  }

 private:
  absl::StatusOr<Grammar::ExprId> Alternatives(int depth) {
    if (depth > kMaxSyntaxDepth) return reader_.Error("groups nested too deeply");
    std::vector<Grammar::ExprId> choices;
    do {
      std::vector<Grammar::ExprId> parts;
      while (!reader_.AtEnd() && reader_.Peek() != '|' && reader_.Peek() != ')') {
        if (reader_.Take("$")) {
          if (!reader_.AtEnd()) return reader_.Error("'$' before the end is not supported");
          break;
        }
        BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId atom, Atom(depth));
        BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId part, reader_.TakeQuantifiers(atom, grammar_));
        parts.push_back(part);
      }
      choices.push_back(grammar_.Sequence(std::move(parts)));
    } while (reader_.Take("|"));
    return grammar_.Choice(std::move(choices));
  }

  absl::StatusOr<Grammar::ExprId> Atom(int depth) {
    if (reader_.Take("(")) {
      if (reader_.Peek() == '?' && !reader_.Take("?:")) return reader_.Error("\"(?\" is supported as \"(?:\" only");
      BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId group, Alternatives(depth + 1));
      if (!reader_.Take(")")) return reader_.Error("a '(' without its ')'");
      return group;
    }
    if (reader_.Take("[")) {
      BERTH_ASSIGN_OR_RETURN(Grammar::CodePoints ranges, reader_.TakeClass());
      return OneOf(std::move(ranges));
    }
    if (reader_.Take(".")) return OneOf(Grammar::Complement({{'\n', '\n'}}));
    if (reader_.Take("\\")) {
      BERTH_ASSIGN_OR_RETURN(Grammar::CodePoints ranges, reader_.TakeEscape());
      return OneOf(std::move(ranges));
    }
    for (const char c : {'*', '+', '?', '{', '^'}) {
      if (reader_.Peek() == c) return reader_.Error(absl::StrCat("'", std::string(1, c), "' is not expected"));
    }
    BERTH_ASSIGN_OR_RETURN(const int32_t c, reader_.TakeCharacter());
    return OneOf({{c, c}});
  }

  absl::StatusOr<Grammar::ExprId> OneOf(Grammar::CodePoints ranges) {
    if (of_ == RegexOf::kText) return reader_.OneOf(std::move(ranges), grammar_);
    std::vector<Grammar::ExprId> choices;
    for (const auto& [c, escape] : kJsonEscapes) {
      const auto has = [c = c](const auto& range) { return range.first <= c && c <= range.second; };
      if (std::any_of(ranges.begin(), ranges.end(), has)) choices.push_back(grammar_.Literal(escape));
    }
    Grammar::CodePoints others = Grammar::Complement(std::move(ranges));
    others.insert(others.end(), {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
    Grammar::CodePoints plain = Grammar::Complement(std::move(others));
    if (plain.empty() && choices.empty()) return reader_.Error("a control character without an escape of one letter");
    if (!plain.empty()) {
      absl::StatusOr<Grammar::ExprId> one = reader_.OneOf(std::move(plain), grammar_);
      if (one.ok()) choices.push_back(*one);
      if (choices.empty()) return one;
    }
    return grammar_.Choice(std::move(choices));
  }

  SyntaxReader reader_;
  Grammar& grammar_;
  const RegexOf of_;
};

}  // namespace

absl::StatusOr<Grammar::ExprId> AppendRegex(std::string_view pattern, Grammar& grammar, RegexOf of) {
  return RegexParser(pattern, grammar, of).Parse();
}

absl::StatusOr<Grammar> ParseRegex(std::string_view pattern) {
  Grammar grammar;
  const Grammar::RuleId root = grammar.AddRule("root");
  BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId body, AppendRegex(pattern, grammar));
  grammar.Define(root, body);
  return grammar;
}

}  // namespace berth::text
