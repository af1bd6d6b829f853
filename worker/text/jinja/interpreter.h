#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/text/jinja/ast.h"
#include "worker/text/jinja/builtins.h"

namespace berth::text::jinja {

// The variables of one block. Blocks that make their own (loops, macros) see those around them.
struct Scope {
  std::shared_ptr<Scope> parent;
  absl::flat_hash_map<std::string, Value> variables;
};

// A macro as a value: what it is and the variables it sees.
struct Closure {
  const Macro* macro;
  std::shared_ptr<Scope> scope;
};

// Runs one render of a template. Thread: one at a time.
class Interpreter : public Runtime {
 public:
  explicit Interpreter(absl::Time clock);
  // Breaks the cycles that namespaces may have made.
  ~Interpreter() override;

  void Define(const std::string& name, const Value& value) { scope_->variables[name] = value; }
  absl::StatusOr<std::string> Run(const Body& body);

  absl::Status Charge(size_t work) override;
  Namespace* NewNamespace() override;
  absl::StatusOr<std::string> FormatNow(const std::string& format) override;
  absl::Status Raise(const std::string& message) override;

 private:
  enum class Flow { kNext, kBreak, kContinue };

  absl::StatusOr<Flow> Execute(const Body& body);
  absl::StatusOr<Flow> ExecuteOne(const Stmt& stmt);
  absl::StatusOr<Flow> ExecuteIf(const Stmt& stmt);
  absl::StatusOr<Flow> ExecuteFor(const Stmt& stmt);
  // The items of a loop that its filter lets through.
  absl::StatusOr<std::vector<Value>> LoopItems(const Stmt& stmt);
  // Executes `body` with variables of its own into a text of its own.
  absl::StatusOr<std::string> Capture(const Body& body);
  absl::Status ExecuteCallBlock(const Stmt& stmt);
  absl::Status Assign(const Target& target, const Value& value);
  absl::Status Write(std::string_view text);
  void DefineMacro(const Macro& macro, const std::string& name);

  // One level deeper, for an expression or a macro; the caller leaves it again.
  absl::Status Enter();
  absl::StatusOr<Value> Evaluate(const Expr& expr);
  absl::StatusOr<Value> EvaluateKind(const Expr& expr);
  absl::StatusOr<std::vector<Value>> EvaluateAll(const std::vector<ExprPtr>& exprs);
  absl::StatusOr<Value> EvaluateDict(const Expr& expr);
  absl::StatusOr<Value> EvaluateSlice(const Expr& expr);
  absl::StatusOr<Value> EvaluateCompare(const Expr& expr);
  absl::StatusOr<Value> EvaluateConcat(const Expr& expr);
  absl::StatusOr<Value> EvaluateChoice(const Expr& expr);
  absl::StatusOr<Value> EvaluateCall(const Expr& expr);
  absl::StatusOr<Value> EvaluateSign(const Expr& expr);
  absl::StatusOr<Arguments> EvaluateArguments(const Expr& expr);
  absl::StatusOr<Value> Call(const Value& callee, const Arguments& arguments);
  absl::StatusOr<Value> CallMacro(const Closure& closure, const Arguments& arguments);
  Value Lookup(const std::string& name) const;

  const absl::Time clock_;
  std::shared_ptr<Scope> scope_ = std::make_shared<Scope>();
  std::string* out_ = nullptr;
  std::deque<Namespace> namespaces_;
  std::deque<Closure> closures_;
  size_t work_ = 0;
  size_t iterations_ = 0;
  int depth_ = 0;
  int line_ = 1;
  bool raised_ = false;
};

}  // namespace berth::text::jinja
