#include "worker/text/jinja/interpreter.h"

#include <ctime>

#include "absl/cleanup/cleanup.h"
#include "base/status.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/format.h"
#include "worker/text/jinja/lexer.h"
#include "worker/text/jinja/operators.h"

namespace berth::text::jinja {
namespace {

constexpr size_t kMaxWork = size_t{1} << 28;  // about a second; also bounds the memory of all texts ever made
constexpr size_t kMaxIterations = 1000000;

}  // namespace

Interpreter::Interpreter(absl::Time clock) : clock_(clock) {}

Interpreter::~Interpreter() {
  for (Namespace& name_space : namespaces_) name_space.attributes.clear();
  for (Closure& closure : closures_) closure.scope.reset();
}

absl::StatusOr<std::string> Interpreter::Run(const Body& body) {
  std::string out;
  out_ = &out;
  const absl::StatusOr<Flow> flow = Execute(body);
  if (flow.ok()) return out;
  if (raised_) return flow.status();
  return absl::Status(flow.status().code(), ErrorAtLine(line_, std::string(flow.status().message())).message());
}

absl::Status Interpreter::Charge(size_t work) {
  work_ += std::min(work, kMaxWork);
  if (work_ <= kMaxWork) return absl::OkStatus();
  return absl::ResourceExhaustedError("the template works too long");
}

Namespace* Interpreter::NewNamespace() { return &namespaces_.emplace_back(); }

absl::StatusOr<std::string> Interpreter::FormatNow(const std::string& format) {
  const std::tm time = absl::ToTM(clock_, absl::UTCTimeZone());
  char buffer[1024];
  const size_t length = std::strftime(buffer, sizeof(buffer), format.c_str(), &time);
  if (length == 0 && !format.empty()) return absl::InvalidArgumentError("strftime_now: the format gives no text or too much");
  return std::string(buffer, length);
}

absl::Status Interpreter::Raise(const std::string& message) {
  raised_ = true;
  return absl::InvalidArgumentError(message);
}

absl::Status Interpreter::Write(std::string_view text) {
  if (out_->size() + text.size() > kMaxText)
    return absl::ResourceExhaustedError(Cat("the output is longer than ", kMaxText, " bytes"));
  out_->append(text);
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Body& body) {
  for (const Stmt& stmt : body) {
    BERTH_ASSIGN_OR_RETURN(const Flow flow, ExecuteOne(stmt));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteOne(const Stmt& stmt) {
  line_ = stmt.line;
  BERTH_RETURN_IF_ERROR(Charge(8));
  switch (stmt.kind) {
    case StmtKind::kText:
      BERTH_RETURN_IF_ERROR(Write(stmt.text));
      return Flow::kNext;
    case StmtKind::kPrint: {
      BERTH_ASSIGN_OR_RETURN(const Value value, Evaluate(*stmt.expr));
      BERTH_ASSIGN_OR_RETURN(const std::string text, Text(*this, value));
      BERTH_RETURN_IF_ERROR(Write(text));
      return Flow::kNext;
    }
    case StmtKind::kIf:
      return ExecuteIf(stmt);
    case StmtKind::kFor:
      return ExecuteFor(stmt);
    case StmtKind::kSet: {
      BERTH_ASSIGN_OR_RETURN(const Value value, Evaluate(*stmt.expr));
      BERTH_RETURN_IF_ERROR(Assign(stmt.target, value));
      return Flow::kNext;
    }
    case StmtKind::kSetBlock: {
      BERTH_ASSIGN_OR_RETURN(std::string text, Capture(stmt.body));
      BERTH_RETURN_IF_ERROR(Assign(stmt.target, Value(std::move(text))));
      return Flow::kNext;
    }
    case StmtKind::kMacro:
      DefineMacro(*stmt.macro, stmt.macro->name);
      return Flow::kNext;
    case StmtKind::kCall:
      BERTH_RETURN_IF_ERROR(ExecuteCallBlock(stmt));
      return Flow::kNext;
    case StmtKind::kScope: {
      BERTH_ASSIGN_OR_RETURN(const std::string text, Capture(stmt.body));
      BERTH_RETURN_IF_ERROR(Write(text));
      return Flow::kNext;
    }
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteIf(const Stmt& stmt) {
  for (const auto& [condition, body] : stmt.branches) {
    BERTH_ASSIGN_OR_RETURN(const Value value, Evaluate(*condition));
    if (value.Truthy()) return Execute(body);
  }
  return Execute(stmt.otherwise);
}

absl::StatusOr<std::vector<Value>> Interpreter::LoopItems(const Stmt& stmt) {
  BERTH_ASSIGN_OR_RETURN(const Value iterable, Evaluate(*stmt.expr));
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(*this, iterable));
  if (stmt.filter == nullptr) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    BERTH_RETURN_IF_ERROR(Assign(stmt.target, item));
    BERTH_ASSIGN_OR_RETURN(const Value passes, Evaluate(*stmt.filter));
    if (passes.Truthy()) kept.push_back(std::move(item));
  }
  return kept;
}

absl::StatusOr<Interpreter::Flow> Interpreter::ExecuteFor(const Stmt& stmt) {
  const std::shared_ptr<Scope> outer = scope_;
  const absl::Cleanup restore = [&] { scope_ = outer; };
  // The filter sees the loop's target, but only for itself.
  scope_ = std::make_shared<Scope>(Scope{outer});
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> items, LoopItems(stmt));
  if (items.empty()) {
    scope_ = std::make_shared<Scope>(Scope{outer});
    return Execute(stmt.otherwise);
  }
  const auto loop = std::make_shared<Loop>();
  loop->items = std::move(items);
  scope_ = nullptr;
  for (; loop->index < loop->items.size(); ++loop->index) {
    if (++iterations_ > kMaxIterations) {
      return absl::ResourceExhaustedError(Cat("loops run more than ", kMaxIterations, " times"));
    }
    // Each turn has variables of its own; a turn's macro may have kept the last ones.
    if (scope_.use_count() == 1) {
      scope_->variables.clear();
    } else {
      scope_ = std::make_shared<Scope>(Scope{outer});
    }
    scope_->variables["loop"] = Value(loop);
    BERTH_RETURN_IF_ERROR(Assign(stmt.target, loop->items[loop->index]));
    BERTH_ASSIGN_OR_RETURN(const Flow flow, Execute(stmt.body));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::StatusOr<std::string> Interpreter::Capture(const Body& body) {
  std::string text;
  const std::shared_ptr<Scope> outer = scope_;
  std::string* const out = std::exchange(out_, &text);
  scope_ = std::make_shared<Scope>(Scope{outer});
  const absl::StatusOr<Flow> flow = Execute(body);
  scope_ = outer;
  out_ = out;
  if (!flow.ok()) return flow.status();
  BERTH_RETURN_IF_ERROR(Charge(text.size()));
  return text;
}

void Interpreter::DefineMacro(const Macro& macro, const std::string& name) {
  closures_.push_back({&macro, scope_});
  scope_->variables[name] = Value(&closures_.back());
}

absl::Status Interpreter::ExecuteCallBlock(const Stmt& stmt) {
  BERTH_ASSIGN_OR_RETURN(const Value callee, Evaluate(*stmt.expr->operands[0]));
  BERTH_ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(*stmt.expr));
  closures_.push_back({stmt.macro.get(), scope_});
  arguments.named.emplace_back("caller", Value(&closures_.back()));
  BERTH_ASSIGN_OR_RETURN(const Value value, Call(callee, arguments));
  BERTH_ASSIGN_OR_RETURN(const std::string text, Text(*this, value));
  return Write(text);
}

absl::Status Interpreter::Assign(const Target& target, const Value& value) {
  if (target.unpacks) {
    BERTH_ASSIGN_OR_RETURN(const std::vector<Value> parts, Iterate(*this, value));
    if (parts.size() != target.parts.size()) {
      return absl::InvalidArgumentError(Cat("cannot unpack ", parts.size(), " values into ", target.parts.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) BERTH_RETURN_IF_ERROR(Assign(target.parts[i], parts[i]));
    return absl::OkStatus();
  }
  if (target.attribute.empty()) {
    scope_->variables[target.name] = value;
    return absl::OkStatus();
  }
  Namespace* name_space = Lookup(target.name).name_space();
  if (name_space == nullptr) {
    return absl::InvalidArgumentError(Cat("cannot assign to '", target.name, ".", target.attribute, "': not a namespace"));
  }
  if (target.attribute[0] == '_') {
    return absl::InvalidArgumentError(Cat("a namespace cannot hold '", target.attribute, "': it begins with '_'"));
  }
  name_space->attributes[target.attribute] = value;
  return absl::OkStatus();
}

Value Interpreter::Lookup(const std::string& name) const {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return found->second;
  }
  const Value function = FindFunction(name);
  return function.is_undefined() ? Value::UndefinedBecause(Cat("'", name, "' is undefined")) : function;
}

}  // namespace berth::text::jinja
