#include "worker/text/jinja/expression_parser.h"

#include <algorithm>

#include "base/status.h"
#include "worker/text/jinja/cat.h"

namespace berth::text::jinja {

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
        expr, Make(ExprKind::kChoice, line, Operands(std::move(condition), std::move(expr), std::move(otherwise))));
  }
  --nesting_;
  return expr;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseOr() {
  BERTH_ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (IsName("or")) {
    const int line = Take().line;
    BERTH_ASSIGN_OR_RETURN(ExprPtr right, ParseAnd());
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kOr, line, Operands(std::move(left), std::move(right))));
  }
  return left;
}

absl::StatusOr<ExprPtr> ExpressionParser::ParseAnd() {
  BERTH_ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (IsName("and")) {
    const int line = Take().line;
    BERTH_ASSIGN_OR_RETURN(ExprPtr right, ParseNot());
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kAnd, line, Operands(std::move(left), std::move(right))));
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
    BERTH_ASSIGN_OR_RETURN(left, Make(ExprKind::kBinary, op.line, Operands(std::move(left), std::move(right)), op.text));
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

}  // namespace berth::text::jinja
