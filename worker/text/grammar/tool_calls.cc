#include "worker/text/grammar/tool_calls.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/text/grammar/json_rules.h"

namespace berth::text {
namespace {

using ExprId = Grammar::ExprId;

absl::StatusOr<ExprId> ArgumentsOf(const nlohmann::ordered_json& function, const JsonRules& rules) {
  const auto parameters = function.find("parameters");
  if (parameters == function.end() || parameters->empty()) return rules.Object();
  const std::string schema = parameters->dump();
  // On the side: half a schema would be left in the grammar.
  if (const absl::Status status = ParseJsonSchema(schema).status(); !status.ok()) {
    const auto strict = function.find("strict");
    if (strict == function.end() || *strict != true) return rules.Object();
    return absl::InvalidArgumentError(absl::StrCat("tool ", function["name"].dump(), ": ", status.message()));
  }
  BERTH_ASSIGN_OR_RETURN(const Grammar::RuleId rule, AppendJsonSchema(schema, rules));
  return rules.grammar().Refer(rule);
}

}  // namespace

absl::StatusOr<Grammar> ToolCallGrammar(ToolFormat format, absl::Span<const std::string> tools, std::string_view name) {
  const CallSpelling spelling = SpellingOf(format);
  Grammar grammar;
  const JsonRules rules(grammar);
  std::vector<ExprId> calls;
  for (const std::string& text : tools) {
    BERTH_RETURN_IF_ERROR(CheckSize(text));
    const auto function = nlohmann::ordered_json::parse(text)["function"];
    const std::string called = function["name"];
    if (!name.empty() && called != name) continue;
    BERTH_ASSIGN_OR_RETURN(const ExprId arguments, ArgumentsOf(function, rules));
    const ExprId opening = grammar.Literal(name.empty() ? absl::StrCat(called, spelling.arguments) : "");
    calls.push_back(grammar.Sequence({opening, grammar.Optional(grammar.Literal(" ")), arguments}));
  }
  const ExprId call = rules.Named("call", grammar.Choice(std::move(calls)));
  std::vector<ExprId> answer = {call};
  if (name.empty() && !spelling.next.empty()) {
    answer.push_back(grammar.Repeat(grammar.Sequence({grammar.Literal(spelling.next), call}), 0, -1));
  }
  answer.push_back(grammar.Literal(spelling.end));
  const Grammar::RuleId root = grammar.AddRule("root");
  grammar.Define(root, grammar.Sequence(std::move(answer)));
  grammar.set_root(root);
  return grammar;
}

}  // namespace berth::text
