#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/text/jinja/value.h"

namespace berth::text::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<Stmt>;

enum class ExprKind {
  kLiteral,    // literal
  kName,       // name
  kList,       // operands
  kTuple,      // operands
  kDict,       // operands: key, value, key, value, …
  kAttribute,  // operands[0].name
  kItem,       // operands[0][operands[1]]
  kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], each bound may be null
  kCall,       // operands[0](operands[1…], named)
  kFilter,     // operands[0] | name(operands[1…], named)
  kTest,       // operands[0] is name(operands[1…], named)
  kNot,        // not operands[0]
  kNegative,   // -operands[0]
  kPositive,   // +operands[0]
  kBinary,     // operands[0] ops[0] operands[1]: arithmetic
  kCompare,    // operands[0] ops[0] operands[1] ops[1] operands[2] …
  kConcat,     // operands joined by ~
  kAnd,        // operands[0] and operands[1]
  kOr,         // operands[0] or operands[1]
  kChoice,     // operands[1] if operands[0] else operands[2], which may be null
};

struct Expr {
  ExprKind kind;
  int line = 1;
  std::string name;
  Value literal;
  std::vector<ExprPtr> operands;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<std::string> ops;
  int depth = 1;  // levels of expressions from here on, bounded by the parser
};

// What `set` and `for` assign to: a name, an attribute of a namespace, or several targets that unpack a sequence.
struct Target {
  std::string name;
  std::string attribute;  // empty: the name itself
  std::vector<Target> parts;
  bool unpacks = false;
};

struct Parameter {
  std::string name;
  ExprPtr fallback;  // null: none
};

struct Macro {
  std::string name;
  std::vector<Parameter> parameters;
  std::vector<Stmt> body;
};

enum class StmtKind {
  kText,      // text
  kPrint,     // expr
  kIf,        // branches in order, otherwise
  kFor,       // target in expr, if filter: body; otherwise when there was no item
  kSet,       // target = expr
  kSetBlock,  // target = the text of body
  kMacro,     // macro
  kCall,      // expr is a kCall; macro is its caller()
  kScope,     // body, whose assignments stay inside (generation)
  kBreak,
  kContinue,
};

struct Stmt {
  StmtKind kind;
  int line = 1;
  std::string text;
  ExprPtr expr;
  ExprPtr filter;
  Target target;
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body body;
  Body otherwise;
  std::unique_ptr<Macro> macro;
};

}  // namespace berth::text::jinja
