#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/text/grammar/grammar.h"
#include "worker/text/grammar/syntax_reader.h"

namespace berth::text {
namespace {

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-'; }

class EbnfParser {
 public:
  explicit EbnfParser(std::string_view text) : reader_("grammar", text) {}

  absl::StatusOr<Grammar> Parse() {
    for (SkipSpace(); !reader_.AtEnd(); SkipSpace()) {
      const std::string name = TakeName();
      if (name.empty()) return reader_.Error("want the name of a rule");
      SkipSpace();
      if (!reader_.Take("::=")) return reader_.Error("want \"::=\"");
      const Grammar::RuleId rule = RuleOf(name);
      if (grammar_.rules()[rule].body >= 0) return reader_.Error(absl::StrCat("rule \"", name, "\" is defined twice"));
      BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId body, Alternatives(0));
      grammar_.Define(rule, body);
    }
    for (const Grammar::Rule& rule : grammar_.rules()) {
      if (rule.body < 0) return absl::InvalidArgumentError(absl::StrCat("grammar: rule \"", rule.name, "\" is not defined"));
    }
    const auto root = ids_.find("root");
    if (root == ids_.end()) return absl::InvalidArgumentError("grammar: has no rule \"root\"");
    grammar_.set_root(root->second);
    return std::move(grammar_);
  }

 private:
  void SkipSpace() {
    while (!reader_.AtEnd()) {
      if (reader_.Peek() == '#') {
        while (!reader_.AtEnd() && reader_.Peek() != '\n') reader_.Skip();
      } else if (absl::ascii_isspace(reader_.Peek())) {
        reader_.Skip();
      } else {
        return;
      }
    }
  }

  std::string TakeName() {
    std::string name;
    while (IsNameCharacter(reader_.Peek())) {
      name.push_back(reader_.Peek());
      reader_.Skip();
    }
    return name;
  }

  Grammar::RuleId RuleOf(const std::string& name) {
    const auto [it, added] = ids_.try_emplace(name, 0);
    if (added) it->second = grammar_.AddRule(name);
    return it->second;
  }

  // A name that "::=" follows begins the next rule.
  bool AtNextRule() const {
    SyntaxReader ahead = reader_;
    while (IsNameCharacter(ahead.Peek())) ahead.Skip();
    while (absl::ascii_isspace(ahead.Peek())) ahead.Skip();
    return ahead.StartsWith("::=");
  }

  absl::StatusOr<Grammar::ExprId> Alternatives(int depth) {
    if (depth > kMaxSyntaxDepth) return reader_.Error("groups nested too deeply");
    std::vector<Grammar::ExprId> choices;
    do {
      std::vector<Grammar::ExprId> parts;
      for (SkipSpace(); !reader_.AtEnd() && reader_.Peek() != '|' && reader_.Peek() != ')' && !AtNextRule(); SkipSpace()) {
        BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId atom, Atom(depth));
        BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId part, reader_.TakeQuantifiers(atom, grammar_));
        parts.push_back(part);
      }
      choices.push_back(grammar_.Sequence(std::move(parts)));
    } while (reader_.Take("|"));
    if (depth == 0 && reader_.Peek() == ')') return reader_.Error("a ')' without its '('");
    return grammar_.Choice(std::move(choices));
  }

  absl::StatusOr<Grammar::ExprId> Atom(int depth) {
    if (reader_.Take("(")) {
      BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId group, Alternatives(depth + 1));
      if (!reader_.Take(")")) return reader_.Error("a '(' without its ')'");
      return group;
    }
    if (reader_.Take("[")) {
      BERTH_ASSIGN_OR_RETURN(Grammar::CodePoints ranges, reader_.TakeClass());
      return reader_.OneOf(std::move(ranges), grammar_);
    }
    if (reader_.Take("\"")) return TakeString();
    const std::string name = TakeName();
    if (name.empty()) return reader_.Error("want a string, a class, a group or the name of a rule");
    return grammar_.Refer(RuleOf(name));
  }

  absl::StatusOr<Grammar::ExprId> TakeString() {
    std::vector<Grammar::ExprId> characters;
    while (!reader_.Take("\"")) {
      if (reader_.Take("\\")) {
        BERTH_ASSIGN_OR_RETURN(Grammar::CodePoints ranges, reader_.TakeEscape());
        BERTH_ASSIGN_OR_RETURN(const Grammar::ExprId one, reader_.OneOf(std::move(ranges), grammar_));
        characters.push_back(one);
      } else {
        BERTH_ASSIGN_OR_RETURN(const int32_t c, reader_.TakeCharacter());
        characters.push_back(grammar_.Characters({{c, c}}));
      }
    }
    return grammar_.Sequence(std::move(characters));
  }

  SyntaxReader reader_;
  Grammar grammar_;
  absl::flat_hash_map<std::string, Grammar::RuleId> ids_;
};

}  // namespace

absl::StatusOr<Grammar> ParseEbnf(std::string_view text) { return EbnfParser(text).Parse(); }

}  // namespace berth::text
