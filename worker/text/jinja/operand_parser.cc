// Operands of expressions: literals, names, what follows them, filters and tests.
#include "absl/strings/numbers.h"
#include "base/status.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/expression_parser.h"

namespace berth::text::jinja {
namespace {

constexpr size_t kMaxArguments = 64;

}  // namespace

absl::StatusOr<ExprPtr> ExpressionParser::ParsePrimary() {
  const int line = current().line;
  if (current().kind == TokenKind::kInteger || current().kind == TokenKind::kFloat) return ParseNumber();
  if (IsOperator("[")) return ParseList();
  if (IsOperator("{")) return ParseDict();
  if (TakeOperator("(")) {
    ExprPtr expr;
    if (IsOperator(")")) {
      BERTH_ASSIGN_OR_RETURN(expr, Make(ExprKind::kTuple, line, {}));
    } else {
      BERTH_ASSIGN_OR_RETURN(expr, ParseTuple(true));
    }
    BERTH_RETURN_IF_ERROR(ExpectOperator(")"));
    return expr;
  }
  if (current().kind == TokenKind::kString) {
    std::string text;
    while (current().kind == TokenKind::kString) text += Take().text;
    BERTH_ASSIGN_OR_RETURN(ExprPtr expr, Make(ExprKind::kLiteral, line, {}));
    expr->literal = Value(std::move(text));
    return expr;
  }
  if (current().kind != TokenKind::kName) return Unexpected("an expression");
  const std::string name = Take().text;
  const bool is_true = name == "true" || name == "True", is_false = name == "false" || name == "False";
  const bool literal = is_true || is_false || name == "none" || name == "None";
  BERTH_ASSIGN_OR_RETURN(ExprPtr expr, Make(literal ? ExprKind::kLiteral : ExprKind::kName, line, {}));
  if (literal) expr->literal = is_true || is_false ? Value(is_true) : Value(None{});
  expr->name = name;
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNumber() {
  const Token token = Take();
  BERTH_ASSIGN_OR_RETURN(ExprPtr expr, Make(ExprKind::kLiteral, token.line, {}));
  int64_t integer = 0;
  double number = 0;
  if (token.kind == TokenKind::kInteger && absl::SimpleAtoi(token.text, &integer)) {
    expr->literal = Value(integer);
  } else if (token.kind == TokenKind::kFloat && absl::SimpleAtod(token.text, &number)) {
    expr->literal = Value(number);
  } else {
    return ErrorAtLine(token.line, Cat("the number ", token.text, " is beyond 64 bits"));
  }
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseList() {
  const int line = Take().line;
  std::vector<ExprPtr> items;
  while (!IsOperator("]")) {
    if (!items.empty()) BERTH_RETURN_IF_ERROR(ExpectOperator(","));
    if (IsOperator("]")) break;
    BERTH_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    items.push_back(std::move(item));
  }
  Take();
  return Make(ExprKind::kList, line, std::move(items));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseDict() {
  const int line = Take().line;
  std::vector<ExprPtr> items;
  while (!IsOperator("}")) {
    if (!items.empty()) BERTH_RETURN_IF_ERROR(ExpectOperator(","));
    if (IsOperator("}")) break;
    BERTH_ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    BERTH_RETURN_IF_ERROR(ExpectOperator(":"));
    BERTH_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    items.push_back(std::move(key));
    items.push_back(std::move(value));
  }
  Take();
  return Make(ExprKind::kDict, line, std::move(items));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePostfix(ExprPtr expr) {
  while (true) {
    if (IsOperator(".") || IsOperator("[")) {
      BERTH_ASSIGN_OR_RETURN(expr, ParseSubscript(std::move(expr)));
    } else if (IsOperator("(")) {
      BERTH_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      return expr;
    }
  }
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSubscript(ExprPtr expr) {
  const Token open = Take();
  if (open.text == ".") {
    if (current().kind == TokenKind::kInteger) {
      BERTH_ASSIGN_OR_RETURN(ExprPtr index, ParseNumber());
      return Make(ExprKind::kItem, open.line, Operands(std::move(expr), std::move(index)));
    }
    BERTH_ASSIGN_OR_RETURN(std::string name, ExpectName("an attribute's name"));
    BERTH_ASSIGN_OR_RETURN(expr, Make(ExprKind::kAttribute, open.line, Operands(std::move(expr))));
    expr->name = std::move(name);
    return expr;
  }
  ExprPtr bounds[3];
  if (!IsOperator(":")) {
    BERTH_ASSIGN_OR_RETURN(bounds[0], ParseTuple(true));
    if (TakeOperator("]")) return Make(ExprKind::kItem, open.line, Operands(std::move(expr), std::move(bounds[0])));
  }
  BERTH_RETURN_IF_ERROR(ExpectOperator(":"));
  if (!IsOperator(":") && !IsOperator("]")) {
    BERTH_ASSIGN_OR_RETURN(bounds[1], ParseExpression());
  }
  if (TakeOperator(":") && !IsOperator("]")) {
    BERTH_ASSIGN_OR_RETURN(bounds[2], ParseExpression());
  }
  BERTH_RETURN_IF_ERROR(ExpectOperator("]"));
  return Make(ExprKind::kSlice, open.line,
              Operands(std::move(expr), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2])));
}

absl::Status ExpressionParser::ParseArguments(Expr& call) {
  BERTH_RETURN_IF_ERROR(ExpectOperator("("));
  bool first = true;
  while (!TakeOperator(")")) {
    if (!first) BERTH_RETURN_IF_ERROR(ExpectOperator(","));
    first = false;
    if (TakeOperator(")")) break;
    if (IsOperator("*") || IsOperator("**")) {
      return ErrorAtLine(current().line, Cat("unpacking arguments with '", current().text, "' is not supported"));
    }
    std::string name;
    if (current().kind == TokenKind::kName && peek().kind == TokenKind::kOperator && peek().text == "=") {
      name = Take().text;
      Take();
    } else if (!call.named.empty()) {
      return ErrorAtLine(current().line, "a positional argument follows a keyword argument");
    }
    BERTH_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    call.depth = std::max(call.depth, value->depth + 1);
    if (call.depth > kMaxExpressionDepth) {
      return ErrorAtLine(call.line, Cat("an expression nests deeper than ", kMaxExpressionDepth, " levels"));
    }
    if (call.operands.size() + call.named.size() > kMaxArguments) {
      return ErrorAtLine(call.line, Cat("a call has more than ", kMaxArguments, " arguments"));
    }
    if (name.empty()) {
      call.operands.push_back(std::move(value));
    } else {
      call.named.emplace_back(std::move(name), std::move(value));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCall(ExprPtr expr) {
  const int line = current().line;
  if (expr->kind == ExprKind::kAttribute && IsMissingMethod(expr->name)) {
    return ErrorAtLine(line, Cat("the method '", expr->name, "' is not supported"));
  }
  BERTH_ASSIGN_OR_RETURN(ExprPtr call, Make(ExprKind::kCall, line, Operands(std::move(expr))));
  BERTH_RETURN_IF_ERROR(ParseArguments(*call));
  return call;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseFilter(ExprPtr input) {
  const int line = Take().line;
  BERTH_ASSIGN_OR_RETURN(std::string name, ExpectName("a filter's name"));
  if (FindFilter(name) == nullptr) return ErrorAtLine(line, Cat("the filter '", name, "' is not supported"));
  BERTH_ASSIGN_OR_RETURN(ExprPtr filter, Make(ExprKind::kFilter, line, Operands(std::move(input))));
  filter->name = std::move(name);
  if (IsOperator("(")) BERTH_RETURN_IF_ERROR(ParseArguments(*filter));
  return filter;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseTest(ExprPtr expr) {
  const int line = Take().line;
  const bool negated = TakeName("not");
  BERTH_ASSIGN_OR_RETURN(std::string name, ExpectName("a test's name"));
  if (FindTest(name) == nullptr) return ErrorAtLine(line, Cat("the test '", name, "' is not supported"));
  BERTH_ASSIGN_OR_RETURN(ExprPtr test, Make(ExprKind::kTest, line, Operands(std::move(expr))));
  test->name = std::move(name);
  const TokenKind kind = current().kind;
  if (IsOperator("(")) {
    BERTH_RETURN_IF_ERROR(ParseArguments(*test));
  } else if (IsName("is")) {
    return ErrorAtLine(line, "tests cannot be chained with 'is'");
  } else if (((kind == TokenKind::kName && !IsName("else") && !IsName("or") && !IsName("and")) || kind == TokenKind::kString ||
              kind == TokenKind::kInteger || kind == TokenKind::kFloat || IsOperator("[") || IsOperator("{"))) {
    BERTH_ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary());
    BERTH_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    std::vector<ExprPtr> operands = Operands(std::move(test->operands[0]), std::move(argument));
    name = std::move(test->name);
    BERTH_ASSIGN_OR_RETURN(test, Make(ExprKind::kTest, line, std::move(operands)));
    test->name = std::move(name);
  }
  if (!negated) return test;
  return Make(ExprKind::kNot, line, Operands(std::move(test)));
}

}  // namespace berth::text::jinja
