#include "worker/text/grammar/network.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::text {
namespace {

constexpr size_t kMaxNodes = 20'000, kMaxStates = 200'000;
constexpr int kMaxNesting = 2'000;

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

  absl::Status Build(const Grammar& grammar, Grammar::ExprId body) {
    start_ = Add();
    BERTH_ASSIGN_OR_RETURN(end_, Append(grammar, body, start_, 0));
    return absl::OkStatus();
  }

  const State& state(int id) const { return states_[id]; }
  int end() const { return end_; }

  // What is reached from `set` without reading and matters: reads, calls or ends the rule. In rising order.
  std::vector<int> Closure(std::vector<int> set) const {
    std::set<int> seen(set.begin(), set.end());
    while (!set.empty()) {
      const int at = set.back();
      set.pop_back();
      for (const int next : states_[at].empty) {
        if (seen.insert(next).second) set.push_back(next);
      }
    }
    std::vector<int> closure;
    std::copy_if(seen.begin(), seen.end(), std::back_inserter(closure),
                 [&](int at) { return at == end_ || !states_[at].bytes.empty() || !states_[at].calls.empty(); });
    return closure;
  }
  std::vector<int> Start() const { return Closure({start_}); }

 private:
  int Add() {
    states_.emplace_back();
    return static_cast<int>(states_.size()) - 1;
  }

  // Adds `id` from state `from` on; its last state. No edge of another expression ends in the states that it adds.
  absl::StatusOr<int> Append(const Grammar& grammar, Grammar::ExprId id, int from, int depth) {
    if (states_.size() > kMaxStates || depth > kMaxNesting) return TooLarge();
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

  std::vector<State> states_;
  int start_ = 0, end_ = 0;
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
    BERTH_RETURN_IF_ERROR(CheckLeftRecursion());
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
    RuleAutomaton automaton;
    BERTH_RETURN_IF_ERROR(automaton.Build(grammar_, grammar_.rules()[rule].body));
    std::map<std::vector<int>, int32_t> known = {{automaton.Start(), starts_[rule]}};
    std::vector<std::vector<int>> open = {automaton.Start()};
    const auto node_of = [&](std::vector<int> set) -> absl::StatusOr<int32_t> {
      set = automaton.Closure(std::move(set));
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

  // Nodes reached from the start of `rule` without reading, going on after the calls of rules that may be empty.
  std::vector<int32_t> FirstNodes(int32_t start, const std::vector<bool>& may_be_empty) const {
    std::vector<int32_t> found = {start};
    for (size_t i = 0; i < found.size(); ++i) {
      for (const Network::Call& call : network_.nodes[found[i]].calls) {
        if (may_be_empty[call.start] && std::find(found.begin(), found.end(), call.target) == found.end())
          found.push_back(call.target);
      }
    }
    return found;
  }

  absl::Status CheckLeftRecursion() const {
    std::vector<bool> may_be_empty(network_.nodes.size());  // by a rule's first node
    for (bool changed = true; changed;) {
      changed = false;
      for (const int32_t start : starts_) {
        if (start < 0 || may_be_empty[start]) continue;
        for (const int32_t node : FirstNodes(start, may_be_empty))
          may_be_empty[start] = may_be_empty[start] || network_.nodes[node].accepting;
        changed = changed || may_be_empty[start];
      }
    }
    absl::flat_hash_map<int32_t, std::vector<int32_t>> begins_with;
    for (const int32_t start : starts_) {
      if (start < 0) continue;
      for (const int32_t node : FirstNodes(start, may_be_empty)) {
        for (const Network::Call& call : network_.nodes[node].calls) begins_with[start].push_back(call.start);
      }
    }
    for (size_t rule = 0; rule < starts_.size(); ++rule) {
      std::vector<int32_t> open = {starts_[rule]};
      std::set<int32_t> seen;
      while (!open.empty()) {
        const int32_t at = open.back();
        open.pop_back();
        for (const int32_t next : begins_with[at]) {
          if (next == starts_[rule]) {
            return absl::InvalidArgumentError(
                absl::StrCat("grammar: rule \"", grammar_.rules()[rule].name, "\" begins with itself"));
          }
          if (seen.insert(next).second) open.push_back(next);
        }
      }
    }
    return absl::OkStatus();
  }

  const Grammar& grammar_;
  Network network_;
  std::vector<int32_t> starts_;  // by rule; -1: not reached
  std::vector<Grammar::RuleId> waiting_;
};

}  // namespace

absl::StatusOr<Network> BuildNetwork(const Grammar& grammar) { return Builder(grammar).Build(); }

}  // namespace berth::text
