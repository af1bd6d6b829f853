#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/grammar/grammar.h"

namespace berth::text {

// A grammar as automata that call each other: one deterministic automaton per rule, whose edges read a byte or call a rule.
struct Network {
  struct Edge {
    uint8_t low, high;  // inclusive
    int32_t target;
  };
  struct Call {
    int32_t start;   // of the called rule
    int32_t target;  // where to go on after it
  };
  struct Node {
    std::vector<Edge> edges;  // in rising order, disjoint
    std::vector<Call> calls;
    bool accepting = false;     // the rule may end here
    bool may_be_empty = false;  // the rule may end from here on without reading
    int32_t order = 0;          // of a rule's first node: above those of all rules that the rule may begin with
  };

  std::vector<Node> nodes;
  int32_t start = 0;  // of the root rule

  // Where `byte` leads from `node`, or -1.
  int32_t Next(int32_t node, uint8_t byte) const { return next[node][byte]; }
  // Nothing but edges leave the node, and its rule does not end in it.
  bool plain(int32_t node) const { return nodes[node].calls.empty() && !nodes[node].accepting; }

  std::vector<std::array<int32_t, 256>> next;  // the edges once more, by node and byte
};

// INVALID_ARGUMENT: a rule that begins with itself, or more than 20,000 nodes, or as much work as so many cannot need.
absl::StatusOr<Network> BuildNetwork(const Grammar& grammar);

}  // namespace berth::text
