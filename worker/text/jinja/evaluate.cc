// The interpreter's expressions.
#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "base/status.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/interpreter.h"
#include "worker/text/jinja/operators.h"

namespace berth::text::jinja {
namespace {

constexpr int kMaxDepth = 400;  // of expressions and macro calls within each other

}  // namespace

absl::StatusOr<Value> Interpreter::Evaluate(const Expr& expr) {
  line_ = expr.line;
  BERTH_RETURN_IF_ERROR(Charge(8));
  BERTH_RETURN_IF_ERROR(Enter());
  absl::StatusOr<Value> value = EvaluateKind(expr);
  --depth_;
  return value;
}

absl::StatusOr<Value> Interpreter::EvaluateKind(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kLiteral:
      return expr.literal;
    case ExprKind::kName:
      return Lookup(expr.name);
    case ExprKind::kList:
    case ExprKind::kTuple: {
      BERTH_ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateAll(expr.operands));
      return MakeList(std::move(items), expr.kind == ExprKind::kList ? ListKind::kList : ListKind::kTuple);
    }
    case ExprKind::kDict:
      return EvaluateDict(expr);
    case ExprKind::kSlice:
      return EvaluateSlice(expr);
    case ExprKind::kCall:
      return EvaluateCall(expr);
    case ExprKind::kCompare:
      return EvaluateCompare(expr);
    case ExprKind::kConcat:
      return EvaluateConcat(expr);
    case ExprKind::kChoice:
      return EvaluateChoice(expr);
    case ExprKind::kNegative:
    case ExprKind::kPositive:
      return EvaluateSign(expr);
    default:
      break;
  }
  BERTH_ASSIGN_OR_RETURN(const Value first, Evaluate(*expr.operands[0]));
  switch (expr.kind) {
    case ExprKind::kAttribute:
      return GetAttribute(first, expr.name);
    case ExprKind::kItem: {
      BERTH_ASSIGN_OR_RETURN(const Value key, Evaluate(*expr.operands[1]));
      return GetItem(first, key);
    }
    case ExprKind::kFilter: {
      BERTH_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
      return FindFilter(expr.name)(*this, first, arguments);
    }
    case ExprKind::kTest: {
      BERTH_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
      BERTH_ASSIGN_OR_RETURN(const bool passes, FindTest(expr.name)(*this, first, arguments));
      return Value(passes);
    }
    case ExprKind::kBinary: {
      BERTH_ASSIGN_OR_RETURN(const Value second, Evaluate(*expr.operands[1]));
      return Arithmetic(*this, expr.ops[0], first, second);
    }
    case ExprKind::kAnd:
      return first.Truthy() ? Evaluate(*expr.operands[1]) : first;
    case ExprKind::kOr:
      return first.Truthy() ? first : Evaluate(*expr.operands[1]);
    default:  // kNot
      return Value(!first.Truthy());
  }
}

absl::StatusOr<std::vector<Value>> Interpreter::EvaluateAll(const std::vector<ExprPtr>& exprs) {
  std::vector<Value> values;
  values.reserve(exprs.size());
  for (const ExprPtr& expr : exprs) {
    BERTH_ASSIGN_OR_RETURN(Value value, Evaluate(*expr));
    values.push_back(std::move(value));
  }
  return values;
}

absl::StatusOr<Value> Interpreter::EvaluateDict(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> parts, EvaluateAll(expr.operands));
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < parts.size(); i += 2) items.emplace_back(std::move(parts[i]), std::move(parts[i + 1]));
  return MakeDict(std::move(items));
}

absl::StatusOr<Value> Interpreter::EvaluateSlice(const Expr& expr) {
  Value parts[4];
  for (size_t i = 0; i < 4; ++i) {
    if (expr.operands[i] == nullptr) continue;
    BERTH_ASSIGN_OR_RETURN(parts[i], Evaluate(*expr.operands[i]));
    if (i > 0 && parts[i].is_undefined()) return absl::InvalidArgumentError(parts[i].UndefinedMessage());
  }
  return GetSlice(*this, parts[0], parts[1], parts[2], parts[3]);
}

absl::StatusOr<Value> Interpreter::EvaluateCompare(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(Value left, Evaluate(*expr.operands[0]));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(Value right, Evaluate(*expr.operands[i + 1]));
    BERTH_ASSIGN_OR_RETURN(const bool holds, CompareWith(*this, expr.ops[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

absl::StatusOr<Value> Interpreter::EvaluateConcat(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> parts, EvaluateAll(expr.operands));
  std::string out;
  for (const Value& part : parts) {
    BERTH_ASSIGN_OR_RETURN(const std::string text, Text(*this, part));
    out += text;
  }
  return Value(std::move(out));
}

absl::StatusOr<Value> Interpreter::EvaluateChoice(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(const Value condition, Evaluate(*expr.operands[0]));
  if (condition.Truthy()) return Evaluate(*expr.operands[1]);
  if (expr.operands[2] != nullptr) return Evaluate(*expr.operands[2]);
  return Value::UndefinedBecause("an inline if was false and has no else");
}

absl::StatusOr<Value> Interpreter::EvaluateSign(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(const Value value, Evaluate(*expr.operands[0]));
  if (!value.is_number()) {
    return absl::InvalidArgumentError(value.is_undefined() ? value.UndefinedMessage()
                                                           : Cat("bad operand type for a sign: '", value.TypeName(), "'"));
  }
  if (value.is_float()) return Value(expr.kind == ExprKind::kNegative ? -value.number() : value.number());
  return Arithmetic(*this, expr.kind == ExprKind::kNegative ? "-" : "+", Value(int64_t{0}), value);
}

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(const Expr& expr) {
  Arguments arguments;
  for (size_t i = 1; i < expr.operands.size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(Value value, Evaluate(*expr.operands[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, operand] : expr.named) {
    BERTH_ASSIGN_OR_RETURN(Value value, Evaluate(*operand));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::EvaluateCall(const Expr& expr) {
  BERTH_ASSIGN_OR_RETURN(const Value callee, Evaluate(*expr.operands[0]));
  BERTH_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(expr));
  line_ = expr.line;
  return Call(callee, arguments);
}

absl::StatusOr<Value> Interpreter::Call(const Value& callee, const Arguments& arguments) {
  if (callee.method() != nullptr) return CallMethod(*this, *callee.method(), arguments);
  if (callee.function() != nullptr) return CallFunction(*this, *callee.function(), arguments);
  if (callee.macro() != nullptr) return CallMacro(*callee.macro(), arguments);
  if (callee.is_undefined()) return absl::InvalidArgumentError(callee.UndefinedMessage());
  return absl::InvalidArgumentError(Cat("a value of type ", callee.TypeName(), " cannot be called"));
}

absl::Status Interpreter::Enter() {
  if (depth_ >= kMaxDepth) return absl::ResourceExhaustedError("the template recurses too deep");
  ++depth_;
  return absl::OkStatus();
}

absl::StatusOr<Value> Interpreter::CallMacro(const Closure& closure, const Arguments& arguments) {
  const Macro& macro = *closure.macro;
  if (arguments.positional.size() > macro.parameters.size()) {
    return absl::InvalidArgumentError(Cat("macro '", macro.name, "' takes at most ", macro.parameters.size(),
                                          " arguments, not ", arguments.positional.size()));
  }
  auto variables = std::make_shared<Scope>(Scope{closure.scope});
  for (const auto& [name, value] : arguments.named) {
    const bool known =
        name == "caller" || std::any_of(macro.parameters.begin() + arguments.positional.size(), macro.parameters.end(),
                                        [&name = name](const Parameter& parameter) { return parameter.name == name; });
    if (!known) return absl::InvalidArgumentError(Cat("macro '", macro.name, "' takes no argument '", name, "' here"));
    variables->variables[name] = value;
  }
  BERTH_RETURN_IF_ERROR(Enter());
  const std::shared_ptr<Scope> outer = std::exchange(scope_, variables);
  const absl::Cleanup restore = [&] {
    scope_ = outer;
    --depth_;
  };
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    if (i < arguments.positional.size()) {
      variables->variables[parameter.name] = arguments.positional[i];
    } else if (!variables->variables.contains(parameter.name)) {
      Value value = Value::UndefinedBecause(Cat("parameter '", parameter.name, "' was not provided"));
      if (parameter.fallback != nullptr) {
        BERTH_ASSIGN_OR_RETURN(value, Evaluate(*parameter.fallback));
      }
      variables->variables[parameter.name] = std::move(value);
    }
  }
  BERTH_ASSIGN_OR_RETURN(std::string text, Capture(macro.body));
  return Value(std::move(text));
}

}  // namespace berth::text::jinja
