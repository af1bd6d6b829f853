#include "worker/text/grammar/json_rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace berth::text {
namespace {

constexpr char kCharacter[] = R"(([^"\\\x00-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4})))";
constexpr char kNumber[] = R"(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)";
constexpr char kInteger[] = R"(0|-?[1-9][0-9]*)";

}  // namespace

JsonRules::JsonRules(Grammar& grammar) : grammar_(grammar) {
  space_ = Rule("space", "[ \\n\\r\\t]{0,16}");  // a model that likes blanks must get on
  string_ = Rule("string", absl::StrCat("\"", kCharacter, "*\""));
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

Grammar::ExprId JsonRules::StringOfLength(int least, int most) const {
  const ExprId character = *AppendRegex(kCharacter, grammar_);
  return grammar_.Sequence({grammar_.Literal("\""), grammar_.Repeat(character, least, most), grammar_.Literal("\"")});
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

Grammar::ExprId JsonRules::Named(std::string name, ExprId expr) const {
  const Grammar::RuleId rule = grammar_.AddRule(std::move(name));
  grammar_.Define(rule, expr);
  return grammar_.Refer(rule);
}

}  // namespace berth::text
