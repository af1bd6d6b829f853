#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/lexer.h"

namespace berth::text::jinja {

// Parses expressions from a token list, with the precedences of Jinja's own parser. The statement parser is built on it.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& current() const { return tokens_[at_]; }
  const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token Take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool IsOperator(std::string_view op) const { return current().kind == TokenKind::kOperator && current().text == op; }
  bool IsName(std::string_view name) const { return current().kind == TokenKind::kName && current().text == name; }
  bool TakeOperator(std::string_view op);
  bool TakeName(std::string_view name);
  absl::Status ExpectOperator(std::string_view op);
  absl::StatusOr<std::string> ExpectName(std::string_view what);
  absl::Status Unexpected(std::string_view wanted) const;

  // One expression, or a tuple without parentheses. `choice`: whether an inline `if` may follow. `end`: a name that ends it
  // too.
  absl::StatusOr<ExprPtr> ParseTuple(bool choice, std::string_view end = "");
  absl::StatusOr<ExprPtr> ParseExpression(bool choice = true);
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParsePrimary();
  // `| name(args)` over `input`, at the bar.
  absl::StatusOr<ExprPtr> ParseFilter(ExprPtr input);

 private:
  // Bounds this parser's and the interpreter's recursion.
  static constexpr int kMaxExpressionDepth = 100;

  using Rule = absl::StatusOr<ExprPtr> (ExpressionParser::*)();

  template <typename... Exprs>
  static std::vector<ExprPtr> Operands(Exprs... exprs) {
    std::vector<ExprPtr> operands;
    (operands.push_back(std::move(exprs)), ...);
    return operands;
  }
  absl::StatusOr<ExprPtr> Make(ExprKind kind, int line, std::vector<ExprPtr> operands, std::string op = "") const;
  absl::StatusOr<ExprPtr> LeftToRight(Rule next, std::initializer_list<std::string_view> ops);
  absl::StatusOr<ExprPtr> ParseOr();
  absl::StatusOr<ExprPtr> ParseAnd();
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseSum();
  absl::StatusOr<ExprPtr> ParseConcat();
  absl::StatusOr<ExprPtr> ParseProduct();
  absl::StatusOr<ExprPtr> ParsePower();
  absl::StatusOr<ExprPtr> ParseUnaryWithFilters();
  absl::StatusOr<ExprPtr> ParseUnary(bool filters);
  absl::StatusOr<ExprPtr> ParseNumber();
  absl::StatusOr<ExprPtr> ParseList();
  absl::StatusOr<ExprPtr> ParseDict();
  absl::StatusOr<ExprPtr> ParseSubscript(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseTest(ExprPtr expr);
  absl::StatusOr<ExprPtr> ParseCall(ExprPtr expr);
  absl::Status ParseArguments(Expr& call);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace berth::text::jinja
