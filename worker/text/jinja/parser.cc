#include "worker/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "base/status.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/expression_parser.h"

namespace berth::text::jinja {
namespace {

constexpr int kMaxBlockDepth = 40;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  absl::StatusOr<Body> Run() {
    BERTH_ASSIGN_OR_RETURN(Body body, ParseBody({}, 1));
    return body;
  }

 private:
  // Statements up to a block that begins with one of `ends`, whose "{%" is taken and whose name is current; the template's end
  // when there are none. `line`: where the block around them begins.
  absl::StatusOr<Body> ParseBody(std::initializer_list<std::string_view> ends, int line) {
    if (++depth_ > kMaxBlockDepth) {
      return ErrorAtLine(current().line, Cat("blocks nest deeper than ", kMaxBlockDepth, " levels"));
    }
    Body body;
    while (current().kind != TokenKind::kEnd) {
      Stmt stmt{.kind = StmtKind::kText, .line = current().line};
      if (current().kind == TokenKind::kText) {
        stmt.text = Take().text;
      } else if (current().kind == TokenKind::kPrintBegin) {
        Take();
        stmt.kind = StmtKind::kPrint;
        BERTH_ASSIGN_OR_RETURN(stmt.expr, ParseTuple(true));
        if (current().kind != TokenKind::kPrintEnd) return Unexpected("'}}'");
        Take();
      } else {
        Take();
        if (std::find(ends.begin(), ends.end(), current().text) != ends.end() && current().kind == TokenKind::kName) {
          --depth_;
          return body;
        }
        BERTH_ASSIGN_OR_RETURN(stmt, ParseBlock());
      }
      body.push_back(std::move(stmt));
    }
    if (ends.size() > 0) return ErrorAtLine(line, Cat("missing '", *std::prev(ends.end()), "'"));
    --depth_;
    return body;
  }

  absl::Status ExpectBlockEnd() {
    if (current().kind != TokenKind::kBlockEnd) return Unexpected("'%}'");
    Take();
    return absl::OkStatus();
  }

  // The body of a block whose begin tag ends here, with its `end` tag.
  absl::StatusOr<Body> ParseBodyTo(std::string_view end, int line) {
    BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
    BERTH_ASSIGN_OR_RETURN(Body body, ParseBody({end}, line));
    Take();
    BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
    return body;
  }

  absl::StatusOr<Stmt> ParseBlock() {
    const int line = current().line;
    BERTH_ASSIGN_OR_RETURN(const std::string name, ExpectName("a statement"));
    if (name == "if") return ParseIf(line);
    if (name == "for") return ParseFor(line);
    if (name == "set") return ParseSet(line);
    if (name == "macro") return ParseMacro(line);
    if (name == "call") return ParseCallBlock(line);
    if (name == "generation") {
      Stmt stmt{.kind = StmtKind::kScope, .line = line};
      BERTH_ASSIGN_OR_RETURN(stmt.body, ParseOutsideLoops("endgeneration", line));
      return stmt;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) return ErrorAtLine(line, Cat("'", name, "' outside a loop"));
      BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
      return Stmt{.kind = name == "break" ? StmtKind::kBreak : StmtKind::kContinue, .line = line};
    }
    return ErrorAtLine(line, Cat("the statement '", name, "' is not supported here"));
  }

  // A body that break and continue cannot leave.
  absl::StatusOr<Body> ParseOutsideLoops(std::string_view end, int line) {
    const int loops = std::exchange(loops_, 0);
    BERTH_ASSIGN_OR_RETURN(Body body, ParseBodyTo(end, line));
    loops_ = loops;
    return body;
  }

  absl::StatusOr<Stmt> ParseIf(int line) {
    Stmt stmt{.kind = StmtKind::kIf, .line = line};
    while (true) {
      BERTH_ASSIGN_OR_RETURN(ExprPtr condition, ParseTuple(false));
      BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
      BERTH_ASSIGN_OR_RETURN(Body body, ParseBody({"elif", "else", "endif"}, line));
      stmt.branches.emplace_back(std::move(condition), std::move(body));
      if (TakeName("elif")) continue;
      if (TakeName("else")) {
        BERTH_ASSIGN_OR_RETURN(stmt.otherwise, ParseBodyTo("endif", line));
        return stmt;
      }
      Take();
      BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
      return stmt;
    }
  }

  absl::StatusOr<Stmt> ParseFor(int line) {
    Stmt stmt{.kind = StmtKind::kFor, .line = line};
    BERTH_ASSIGN_OR_RETURN(stmt.target, ParseTarget(false));
    if (!TakeName("in")) return Unexpected("'in'");
    BERTH_ASSIGN_OR_RETURN(stmt.expr, ParseTuple(false, "recursive"));
    if (TakeName("if")) {
      BERTH_ASSIGN_OR_RETURN(stmt.filter, ParseExpression());
    }
    if (IsName("recursive")) return ErrorAtLine(line, "recursive loops are not supported");
    BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
    ++loops_;
    BERTH_ASSIGN_OR_RETURN(stmt.body, ParseBody({"else", "endfor"}, line));
    --loops_;
    if (TakeName("else")) {
      BERTH_ASSIGN_OR_RETURN(stmt.otherwise, ParseBodyTo("endfor", line));
      return stmt;
    }
    Take();
    BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
    return stmt;
  }

  // A name, an attribute of a namespace (`attributes`), or several with commas or in parentheses.
  absl::StatusOr<Target> ParseTarget(bool attributes) {
    Target target;
    const bool parentheses = TakeOperator("(");
    while (true) {
      Target part;
      if (IsOperator("(")) {
        if (++depth_ > kMaxBlockDepth) return Unexpected("a name");
        BERTH_ASSIGN_OR_RETURN(part, ParseTarget(attributes));
        --depth_;
      } else {
        BERTH_ASSIGN_OR_RETURN(part.name, ExpectName("a name to assign to"));
        static constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
        if (std::find(std::begin(kReserved), std::end(kReserved), part.name) != std::end(kReserved)) {
          return ErrorAtLine(current().line, Cat("cannot assign to '", part.name, "'"));
        }
        if (attributes && TakeOperator(".")) {
          BERTH_ASSIGN_OR_RETURN(part.attribute, ExpectName("an attribute's name"));
        }
      }
      target.parts.push_back(std::move(part));
      if (!TakeOperator(",")) break;
      target.unpacks = true;
      if (IsName("in") || IsOperator("=") || IsOperator(")")) break;
    }
    if (parentheses) BERTH_RETURN_IF_ERROR(ExpectOperator(")"));
    if (target.unpacks) return target;
    Target only = std::move(target.parts[0]);
    return only;
  }

  absl::StatusOr<Stmt> ParseSet(int line) {
    Stmt stmt{.kind = StmtKind::kSet, .line = line};
    BERTH_ASSIGN_OR_RETURN(stmt.target, ParseTarget(true));
    if (TakeOperator("=")) {
      BERTH_ASSIGN_OR_RETURN(stmt.expr, ParseTuple(true));
      BERTH_RETURN_IF_ERROR(ExpectBlockEnd());
      return stmt;
    }
    stmt.kind = StmtKind::kSetBlock;
    if (IsOperator("|")) return ErrorAtLine(line, "filters on a set block are not supported");
    BERTH_ASSIGN_OR_RETURN(stmt.body, ParseBodyTo("endset", line));
    return stmt;
  }

  absl::StatusOr<std::vector<Parameter>> ParseParameters() {
    std::vector<Parameter> parameters;
    BERTH_RETURN_IF_ERROR(ExpectOperator("("));
    while (!TakeOperator(")")) {
      if (!parameters.empty()) BERTH_RETURN_IF_ERROR(ExpectOperator(","));
      Parameter parameter;
      BERTH_ASSIGN_OR_RETURN(parameter.name, ExpectName("a parameter's name"));
      if (TakeOperator("=")) {
        BERTH_ASSIGN_OR_RETURN(parameter.fallback, ParseExpression());
      } else if (!parameters.empty() && parameters.back().fallback != nullptr) {
        return ErrorAtLine(current().line, "a parameter without a default follows one with a default");
      }
      parameters.push_back(std::move(parameter));
    }
    return parameters;
  }

  absl::StatusOr<Stmt> ParseMacro(int line) {
    Stmt stmt{.kind = StmtKind::kMacro, .line = line, .macro = std::make_unique<Macro>()};
    BERTH_ASSIGN_OR_RETURN(stmt.macro->name, ExpectName("a macro's name"));
    BERTH_ASSIGN_OR_RETURN(stmt.macro->parameters, ParseParameters());
    BERTH_ASSIGN_OR_RETURN(stmt.macro->body, ParseOutsideLoops("endmacro", line));
    return stmt;
  }

  absl::StatusOr<Stmt> ParseCallBlock(int line) {
    Stmt stmt{.kind = StmtKind::kCall, .line = line, .macro = std::make_unique<Macro>()};
    stmt.macro->name = "caller";
    if (IsOperator("(")) {
      BERTH_ASSIGN_OR_RETURN(stmt.macro->parameters, ParseParameters());
    }
    BERTH_ASSIGN_OR_RETURN(stmt.expr, ParseExpression());
    if (stmt.expr->kind != ExprKind::kCall) return ErrorAtLine(line, "a call block needs a call");
    BERTH_ASSIGN_OR_RETURN(stmt.macro->body, ParseOutsideLoops("endcall", line));
    return stmt;
  }

  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Body> Parse(std::string_view source) {
  BERTH_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace berth::text::jinja
