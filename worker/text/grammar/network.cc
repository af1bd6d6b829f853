#include "worker/text/grammar/network.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::text {
namespace {

constexpr size_t kMaxNodes = 20'000, kMaxStates = 200'000;
constexpr int kMaxNesting = 2'000;
constexpr int64_t kMaxWork = 4'000'000;  // of all rules: expressions appended, states visited

absl::Status TooLarge() {
  return absl::InvalidArgumentError("grammar: too large; bounded repeats count as often as they may come");
}

// One rule as a nondeterministic automaton (Thompson's construction).
class RuleAutomaton {
 public:
  struct State {
    std::vector<int> empty;  // reached without reading
    std::vector<Network::Edge> bytes;
    std::vector<std::pair<Grammar::RuleId, int>> calls;
  };

  // Takes what it does from `work`; below 0, the rest is not worth doing.
  explicit RuleAutomaton(int64_t& work) : work_(work) {}

  absl::Status Build(const Grammar& grammar, Grammar::ExprId body) {
    start_ = Add();
    BERTH_ASSIGN_OR_RETURN(end_, Append(grammar, body, start_, 0));
    seen_by_.resize(states_.size());
    return absl::OkStatus();
  }

  const State& state(int id) const { return states_[id]; }
  int end() const { return end_; }

  // What is reached from `set` without reading and matters: reads, calls or ends the rule. In rising order.
  std::vector<int> Closure(const std::vector<int>& set) {
    std::vector<int> closure, open;
    ++closures_;
    const auto see = [&](int at) {
      if (std::exchange(seen_by_[at], closures_) != closures_) open.push_back(at);
    };
    for (const int at : set) see(at);
    while (!open.empty()) {
      const int at = open.back();
      open.pop_back();
      const State& state = states_[at];
      if (at == end_ || !state.bytes.empty() || !state.calls.empty()) closure.push_back(at);
      for (const int next : state.empty) see(next);
      work_ -= 1 + static_cast<int64_t>(state.empty.size());
    }
    std::sort(closure.begin(), closure.end());
    return closure;
  }
  std::vector<int> Start() { return Closure({start_}); }

 private:
  int Add() {
    states_.emplace_back();
    return static_cast<int>(states_.size()) - 1;
  }

  // Adds `id` from state `from` on; its last state. No edge of another expression ends in the states that it adds.
  absl::StatusOr<int> Append(const Grammar& grammar, Grammar::ExprId id, int from, int depth) {
    if (states_.size() > kMaxStates || depth > kMaxNesting || --work_ < 0) return TooLarge();
    const Grammar::Expr& expr = grammar.expr(id);
    switch (expr.kind) {
      case Grammar::Kind::kBytes: {
        const int to = Add();
        states_[from].bytes.push_back({expr.low, expr.high, to});
        return to;
      }
      case Grammar::Kind::kRule: {
        const int to = Add();
        states_[from].calls.push_back({expr.rule, to});
        return to;
      }
      case Grammar::Kind::kSequence:
        for (const Grammar::ExprId part : expr.parts) {
          BERTH_ASSIGN_OR_RETURN(from, Append(grammar, part, from, depth + 1));
        }
        return from;
      case Grammar::Kind::kChoice: {
        const int to = Add();
        for (const Grammar::ExprId part : expr.parts) {
          const int begin = Add();
          states_[from].empty.push_back(begin);
          BERTH_ASSIGN_OR_RETURN(const int end, Append(grammar, part, begin, depth + 1));
          states_[end].empty.push_back(to);
        }
        return to;
      }
      case Grammar::Kind::kRepeat: {
        for (int i = 0; i < expr.least; ++i) {
          BERTH_ASSIGN_OR_RETURN(from, Append(grammar, expr.parts[0], from, depth + 1));
        }
        const int to = Add();
        states_[from].empty.push_back(to);
        for (int i = expr.least; i < (expr.most < 0 ? expr.least + 1 : expr.most); ++i) {
          const int begin = Add();
          states_[from].empty.push_back(begin);
          BERTH_ASSIGN_OR_RETURN(const int end, Append(grammar, expr.parts[0], begin, depth + 1));
          states_[end].empty.push_back(to);
          if (expr.most < 0) states_[end].empty.push_back(begin);
          from = end;
        }
        return to;
      }
      case Grammar::Kind::kAutomaton: {
        work_ -= static_cast<int64_t>(grammar.automaton(expr).size());
        const int first = static_cast<int>(states_.size()), to = first + static_cast<int>(grammar.automaton(expr).size());
        states_.resize(to + 1);
        states_[from].empty.push_back(first);
        int at = first;
        for (const Grammar::AutomatonState& state : grammar.automaton(expr)) {
          for (const auto& [byte, next] : state.next) states_[at].bytes.push_back({byte, byte, first + next});
          if (state.accepting) states_[at].empty.push_back(to);
          ++at;
        }
        return to;
      }
    }
    return from;
  }

  int64_t& work_;
  std::vector<State> states_;
  int start_ = 0, end_ = 0;
  std::vector<int> seen_by_;  // by state: the last closure that reached it
  int closures_ = 0;
};

class Builder {
 public:
  explicit Builder(const Grammar& grammar) : grammar_(grammar), starts_(grammar.rules().size(), -1) {}

  absl::StatusOr<Network> Build() {
    BERTH_ASSIGN_OR_RETURN(network_.start, StartOf(grammar_.root()));
    while (!waiting_.empty()) {
      const Grammar::RuleId rule = waiting_.back();
      waiting_.pop_back();
      BERTH_RETURN_IF_ERROR(AddRule(rule));
    }
    FindEmpty();
    BERTH_RETURN_IF_ERROR(OrderRules());
    for (const Network::Node& node : network_.nodes) {
      std::array<int32_t, 256>& next = network_.next.emplace_back();
      next.fill(-1);
      for (const Network::Edge& edge : node.edges) std::fill(&next[edge.low], &next[edge.high] + 1, edge.target);
    }
    return std::move(network_);
  }

 private:
  // The first node of a rule; its automaton comes later.
  absl::StatusOr<int32_t> StartOf(Grammar::RuleId rule) {
    if (starts_[rule] < 0) {
      BERTH_ASSIGN_OR_RETURN(starts_[rule], AddNode());
      waiting_.push_back(rule);
    }
    return starts_[rule];
  }

  absl::StatusOr<int32_t> AddNode() {
    if (network_.nodes.size() >= kMaxNodes) return TooLarge();
    network_.nodes.emplace_back();
    return static_cast<int32_t>(network_.nodes.size()) - 1;
  }

  // Subset construction.
  absl::Status AddRule(Grammar::RuleId rule) {
    RuleAutomaton automaton(work_);
    BERTH_RETURN_IF_ERROR(automaton.Build(grammar_, grammar_.rules()[rule].body));
    std::map<std::vector<int>, int32_t> known = {{automaton.Start(), starts_[rule]}};
    std::vector<std::vector<int>> open = {automaton.Start()};
    const auto node_of = [&](const std::vector<int>& reached) -> absl::StatusOr<int32_t> {
      std::vector<int> set = automaton.Closure(reached);
      if (work_ < 0) return TooLarge();
      const auto it = known.find(set);
      if (it != known.end()) return it->second;
      BERTH_ASSIGN_OR_RETURN(const int32_t node, AddNode());
      known.emplace(set, node);
      open.push_back(std::move(set));
      return node;
    };
    while (!open.empty()) {
      const std::vector<int> set = std::move(open.back());
      open.pop_back();
      const int32_t node = known.at(set);
      network_.nodes[node].accepting = std::binary_search(set.begin(), set.end(), automaton.end());
      std::array<std::vector<int>, 256> targets;
      std::map<Grammar::RuleId, std::vector<int>> calls;
      for (const int state : set) {
        for (const Network::Edge& edge : automaton.state(state).bytes) {
          for (int byte = edge.low; byte <= edge.high; ++byte) targets[byte].push_back(edge.target);
          work_ -= 1 + (edge.high - edge.low) / 32;
        }
        for (const auto& [callee, target] : automaton.state(state).calls) calls[callee].push_back(target);
      }
      for (int byte = 0; byte < 256;) {
        int last = byte;
        while (last < 255 && targets[last + 1] == targets[byte]) ++last;
        if (!targets[byte].empty()) {
          BERTH_ASSIGN_OR_RETURN(const int32_t target, node_of(targets[byte]));
          network_.nodes[node].edges.push_back({static_cast<uint8_t>(byte), static_cast<uint8_t>(last), target});
        }
        byte = last + 1;
      }
      for (const auto& [callee, after] : calls) {
        BERTH_ASSIGN_OR_RETURN(const int32_t start, StartOf(callee));
        BERTH_ASSIGN_OR_RETURN(const int32_t target, node_of(after));
        network_.nodes[node].calls.push_back({start, target});
      }
    }
    return absl::OkStatus();
  }

  void FindEmpty() {
    // By node, the calls that need it, each by its own node and what it needs as well: what is called, and what comes after.
    std::vector<std::vector<std::pair<int32_t, int32_t>>> needed(network_.nodes.size());
    std::vector<int32_t> open;
    const auto found = [&](int32_t node) {
      if (std::exchange(network_.nodes[node].may_be_empty, true)) return;
      open.push_back(node);
    };
    for (size_t i = 0; i < network_.nodes.size(); ++i) {
      const auto node = static_cast<int32_t>(i);
      for (const Network::Call& call : network_.nodes[i].calls) {
        needed[call.start].emplace_back(node, call.target);
        needed[call.target].emplace_back(node, call.start);
      }
      if (network_.nodes[i].accepting) found(node);
    }
    while (!open.empty()) {
      const int32_t at = open.back();
      open.pop_back();
      for (const auto& [node, other] : needed[at]) {
        if (network_.nodes[other].may_be_empty) found(node);
      }
    }
  }

  // The rules that one may begin with, by their first nodes. `seen` is of all nodes.
  std::vector<int32_t> BeginsWith(int32_t start, std::vector<bool>& seen) const {
    std::vector<int32_t> callees, open = {start};
    seen[start] = true;
    while (!open.empty()) {
      const int32_t at = open.back();
      open.pop_back();
      for (const Network::Call& call : network_.nodes[at].calls) {
        callees.push_back(call.start);
        if (!network_.nodes[call.start].may_be_empty || seen[call.target]) continue;
        seen[call.target] = true;
        open.push_back(call.target);
      }
    }
    return callees;
  }

  // Numbers the rules, those that others begin with first.
  absl::Status OrderRules() {
    constexpr int32_t kOpen = -1;
    struct Open {
      int32_t start;
      std::vector<int32_t> callees;  // that wait
    };
    std::vector<Open> path;
    std::vector<bool> seen(network_.nodes.size());
    int32_t count = 0;
    const auto enter = [&](int32_t start) {
      network_.nodes[start].order = kOpen;
      path.push_back({start, BeginsWith(start, seen)});
    };
    for (const int32_t start : starts_) {
      if (start >= 0 && network_.nodes[start].order == 0) enter(start);
      while (!path.empty()) {
        std::vector<int32_t>& callees = path.back().callees;
        if (callees.empty()) {
          network_.nodes[path.back().start].order = ++count;
          path.pop_back();
          continue;
        }
        const int32_t callee = callees.back();
        callees.pop_back();
        if (network_.nodes[callee].order == kOpen) {
          const size_t rule = std::find(starts_.begin(), starts_.end(), callee) - starts_.begin();
          return absl::InvalidArgumentError(
              absl::StrCat("grammar: rule \"", grammar_.rules()[rule].name, "\" begins with itself"));
        }
        if (network_.nodes[callee].order == 0) enter(callee);
      }
    }
    return absl::OkStatus();
  }

  const Grammar& grammar_;
  Network network_;
  std::vector<int32_t> starts_;  // by rule; -1: not reached
  std::vector<Grammar::RuleId> waiting_;
  int64_t work_ = kMaxWork;
};

}  // namespace

absl::StatusOr<Network> BuildNetwork(const Grammar& grammar) { return Builder(grammar).Build(); }

}  // namespace berth::text
