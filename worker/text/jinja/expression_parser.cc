#include "worker/text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/cat.h"

namespace berth::text::jinja {
namespace {

// Bounds the parser's and the interpreter's recursion.
constexpr int kMaxExpressionDepth = 100;
constexpr size_t kMaxArguments = 64;

}  // namespace

bool ExpressionParser::TakeOperator(std::string_view op) {
  if (!IsOperator(op)) return false;
  Take();
  return true;
}

bool ExpressionParser::TakeName(std::string_view name) {
  if (!IsName(name)) return false;
  Take();
  return true;
}

absl::Status ExpressionParser::Unexpected(std::string_view wanted) const {
  static constexpr std::string_view kNames[] = {"text", "'{{'", "end of print", "'{%'", "end of block"};
  const Token& token = current();
  std::string what;
  if (token.kind == TokenKind::kEnd) {
    what = "the template's end";
  } else if (token.kind <= TokenKind::kBlockEnd) {
    what = kNames[static_cast<int>(token.kind)];
  } else {
    what = token.kind == TokenKind::kString ? "a string" : Cat("'", token.text, "'");
  }
  return ErrorAtLine(token.line, Cat("unexpected ", what, ", expected ", wanted));
}

absl::Status ExpressionParser::ExpectOperator(std::string_view op) {
  return TakeOperator(op) ? absl::OkStatus() : Unexpected(Cat("'", op, "'"));
}

absl::StatusOr<std::string> ExpressionParser::ExpectName(std::string_view what) {
  if (current().kind != TokenKind::kName) return Unexpected(what);
  return Take().text;
}

absl::StatusOr<ExprPtr> ExpressionParser::Make(ExprKind kind, int line, std::vector<ExprPtr> operands, std::string op) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  for (const ExprPtr& operand : operands) {
    if (operand != nullptr) expr->depth = std::max(expr->depth, operand->depth + 1);
  }
  expr->operands = std::move(operands);
  if (!op.empty()) expr->ops.push_back(std::move(op));
  if (expr->depth > kMaxExpressionDepth) {
    return ErrorAtLine(line, Cat("an expression nests deeper than ", kMaxExpressionDepth, " levels"));
  }
  return expr;
}

namespace {

std::vector<ExprPtr> Operands(ExprPtr a, ExprPtr b = nullptr, ExprPtr c = nullptr, ExprPtr d = nullptr, size_t count = 1) {
  std::vector<ExprPtr> operands;
  ExprPtr* all[] = {&a, &b, &c, &d};
  for (size_t i = 0; i < count; ++i) operands.push_back(std::move(*all[i]));
  return operands;
}

std::vector<ExprPtr> Pair(ExprPtr a, ExprPtr b) { return Operands(std::move(a), std::move(b), nullptr, nullptr, 2); }

}  // namespace

absl::StatusOr<ExprPtr> ExpressionParser::ParseTuple(bool choice, std::string_view end) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool tuple = false;
  while (true) {
    const TokenKind kind = current().kind;
    if (kind == TokenKind::kPrintEnd || kind == TokenKind::kBlockEnd || IsOperator(")") || (!end.empty() && IsName(end))) break;
    BERTH_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression(choice));
    items.push_back(std::move(item));
    if (!TakeOperator(",")) break;
    tuple = true;
  }
  if (tuple) return Make(ExprKind::kTuple, line, std::move(items));
  if (items.empty()) return Unexpected("an expression");
  return std::move(items[0]);
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseExpression(bool choice) {
  if (++nesting_ > kMaxExpressionDepth) {
    return ErrorAtLine(current().line, Cat("an expression nests deeper than ", kMaxExpressionDepth, " levels"));
  }
  const int line = current().line;
  BERTH_ASSIGN_OR_RETURN(ExprPtr expr, ParseOr());
  while (choice && TakeName("if")) {
    BERTH_ASSIGN_OR_RETURN(ExprPtr condition, ParseOr());
    ExprPtr otherwise;
    if (TakeName("else")) {
      BERTH_ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    BERTH_ASSIGN_OR_RETURN(
        expr, Make(ExprKind::kChoice, line, Operands(std::move(condition), std::move(expr), std::move(otherwise), nullptr, 3)));
  }
  --nesting_;
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseOr() {
  BERTH_ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (IsName("or")) {
    const int line = Take().line;
    BERTH_ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kOr, line, Pair(std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseAnd() {
  BERTH_ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (IsName("and")) {
    const int line = Take().line;
    BERTH_ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kAnd, line, Pair(std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseNot() {
  std::vector<int> lines;
  while (IsName("not")) lines.push_back(Take().line);
  BERTH_ASSIGN_OR_RETURN(ExprPtr expr, ParseCompare());
  for (; !lines.empty(); lines.pop_back()) {
    BERTH_ASSIGN_OR_RETURN(expr, Make(ExprKind::kNot, lines.back(), Operands(std::move(expr))));
  }
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseCompare() {
  const int line = current().line;
  BERTH_ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  std::vector<std::string> ops;
  std::vector<ExprPtr> operands;
  operands.push_back(std::move(first));
  while (true) {
    static constexpr std::string_view kComparisons[] = {"==", "!=", "<", "<=", ">", ">="};
    if (current().kind == TokenKind::kOperator &&
        std::find(std::begin(kComparisons), std::end(kComparisons), current().text) != std::end(kComparisons)) {
      ops.push_back(Take().text);
    } else if (TakeName("in")) {
      ops.push_back("in");
    } else if (IsName("not") && peek().kind == TokenKind::kName && peek().text == "in") {
      Take();
      Take();
      ops.push_back("not in");
    } else {
      break;
    }
    BERTH_ASSIGN_OR_RETURN(ExprPtr next, ParseSum());
    operands.push_back(std::move(next));
  }
  if (ops.empty()) return std::move(operands[0]);
  BERTH_ASSIGN_OR_RETURN(ExprPtr compare, Make(ExprKind::kCompare, line, std::move(operands)));
  compare->ops = std::move(ops);
  return compare;
}

absl::StatusOr<ExprPtr> ExpressionParser::LeftToRight(Rule next, std::initializer_list<std::string_view> ops) {
  BERTH_ASSIGN_OR_RETURN(ExprPtr left, (this->*next)());
  while (current().kind == TokenKind::kOperator && std::find(ops.begin(), ops.end(), current().text) != ops.end()) {
    const Token op = Take();
    BERTH_ASSIGN_OR_RETURN(ExprPtr right, (this->*next)());
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kBinary, op.line, Pair(std::move(left), std::move(right)), op.text));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseSum() { return LeftToRight(&ExpressionParser::ParseConcat, {"+", "-"}); }

absl::StatusOr<ExprPtr> ExpressionParser::ParseConcat() {
  const int line = current().line;
  std::vector<ExprPtr> parts;
  do {
    BERTH_ASSIGN_OR_RETURN(ExprPtr part, ParseProduct());
    parts.push_back(std::move(part));
  } while (TakeOperator("~"));
  if (parts.size() == 1) return std::move(parts[0]);
  return Make(ExprKind::kConcat, line, std::move(parts));
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseProduct() {
  return LeftToRight(&ExpressionParser::ParsePower, {"*", "/", "//", "%"});
}

absl::StatusOr<ExprPtr> ExpressionParser::ParsePower() { return LeftToRight(&ExpressionParser::ParseUnaryWithFilters, {"**"}); }

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnaryWithFilters() { return ParseUnary(true); }

absl::StatusOr<ExprPtr> ExpressionParser::ParseUnary(bool filters) {
  std::vector<Token> signs;
  while (IsOperator("-") || IsOperator("+")) signs.push_back(Take());
  BERTH_ASSIGN_OR_RETURN(ExprPtr expr, ParsePrimary());
  BERTH_ASSIGN_OR_RETURN(expr, ParsePostfix(std::move(expr)));
  for (; !signs.empty(); signs.pop_back()) {
    const ExprKind kind = signs.back().text == "-" ? ExprKind::kNegative : ExprKind::kPositive;
    BERTH_ASSIGN_OR_RETURN(expr, Make(kind, signs.back().line, Operands(std::move(expr))));
  }
  while (filters) {
    if (IsOperator("|")) {
      BERTH_ASSIGN_OR_RETURN(expr, ParseFilter(std::move(expr)));
    } else if (IsName("is")) {
      BERTH_ASSIGN_OR_RETURN(expr, ParseTest(std::move(expr)));
    } else if (IsOperator("(")) {
      BERTH_ASSIGN_OR_RETURN(expr, ParseCall(std::move(expr)));
    } else {
      break;
    }
  }
  return expr;
}

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
      return Make(ExprKind::kItem, open.line, Pair(std::move(expr), std::move(index)));
    }
    BERTH_ASSIGN_OR_RETURN(std::string name, ExpectName("an attribute's name"));
    BERTH_ASSIGN_OR_RETURN(expr, Make(ExprKind::kAttribute, open.line, Operands(std::move(expr))));
    expr->name = std::move(name);
    return expr;
  }
  ExprPtr bounds[3];
  if (!IsOperator(":")) {
    BERTH_ASSIGN_OR_RETURN(bounds[0], ParseTuple(true));
    if (TakeOperator("]")) return Make(ExprKind::kItem, open.line, Pair(std::move(expr), std::move(bounds[0])));
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
              Operands(std::move(expr), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]), 4));
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
    std::vector<ExprPtr> operands = Pair(std::move(test->operands[0]), std::move(argument));
    name = std::move(test->name);
    BERTH_ASSIGN_OR_RETURN(test, Make(ExprKind::kTest, line, std::move(operands)));
    test->name = std::move(name);
  }
  if (!negated) return test;
  return Make(ExprKind::kNot, line, Operands(std::move(test)));
}

}  // namespace berth::text::jinja
