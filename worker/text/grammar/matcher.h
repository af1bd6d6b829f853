#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/text/grammar/grammar.h"
#include "worker/text/grammar/network.h"
#include "worker/text/grammar/token_trie.h"

namespace berth::text {

// Where a text stands in a network: the nodes that may read its next byte, each with the frame of its rule. A frame is all that
// the rule may return to, wherever one byte called it from: so the ways to read a text, which may double with every byte, are
// followed together (a graph-structured stack: Tomita 1987). Frames are lists of (return node, frame there) that share their
// ends, equal ones stored once.
class GrammarStack {
 public:
  static constexpr int32_t kBottom = -1;

  struct Top {
    int32_t node, frame;
    bool operator==(const Top&) const = default;
    auto operator<=>(const Top&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Top& top) {
      return H::combine(std::move(h), top.node, top.frame);
    }
  };
  struct State {
    std::vector<Top> tops;  // in rising order
    bool complete = false;  // the bottom rule may end here
  };

  explicit GrammarStack(const Network& network) : network_(network) {}

  State Start() { return Close({{network_.start, kBottom}}); }
  // `out` is the state after `byte`; nothing matches when it has no tops and is not complete.
  void Step(const State& state, uint8_t byte, State& out);

  int32_t frames() const { return static_cast<int32_t>(frames_.size()); }
  void DropFramesFrom(int32_t count);
  // Tops that were looked at so far.
  int64_t work() const { return work_; }

 private:
  struct Frame {
    int32_t node, parent;
    int32_t next;  // the rest of the list, or kBottom
    bool operator==(const Frame&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Frame& frame) {
      return H::combine(std::move(h), frame.node, frame.parent, frame.next);
    }
  };
  // A rule that begins, and where one of its callers goes on.
  struct Begin {
    int32_t start, order;
    Top after;
  };

  State Close(std::vector<Top> tops) {
    State state;
    open_ = std::move(tops);
    Close(state);
    return state;
  }
  // Follows the calls and returns of open_; `state` takes what remains.
  void Close(State& state);
  static bool Later(const Begin& a, const Begin& b);  // in begins_: callers before what they call
  static constexpr int32_t kReturned = -1;            // as the node of a Top: that its frame was returned to
  bool See(const Top& top);                           // false: Close saw it before
  int32_t TakeCallers();                              // the frame of the rule that comes next in begins_, which loses it

  const Network& network_;
  std::vector<Frame> frames_;
  absl::flat_hash_map<Frame, int32_t> frame_ids_;
  std::vector<Top> open_, seen_;        // the first that Close saw: a few are found faster so
  absl::flat_hash_set<Top> many_seen_;  // all, where they are more
  std::vector<Begin> begins_;           // a heap
  int64_t work_ = 0;
};

// A grammar made ready for one vocabulary. Thread-safe; what is known of a node is worked out when it is first asked for, and
// of the first nodes at once. Nodes that the longest token cannot tell apart, like most places of a string with a limit, share
// it.
class CompiledGrammar {
 public:
  // `trie` must outlive it. INVALID_ARGUMENT: the grammar is too large, or can read a token in too many ways.
  static absl::StatusOr<std::shared_ptr<const CompiledGrammar>> Make(const Grammar& grammar, const TokenTrie& trie);

  // What is known of a node alone, whatever its rule returns to.
  struct NodeMask {
    // Tokens that stay inside the rule or end with it: ids where they are few, else a bit each.
    std::vector<int32_t> allowed;
    std::vector<uint32_t> allowed_bits;
    std::vector<TokenTrie::Node> undecided;  // those that go on after its end, as a part of the trie
    int64_t work = 0;                        // that it took; at kMaxMaskWork the mask is not whole
  };
  // A millisecond or so for a node that reads free text, the first time for those that share its mask.
  static constexpr int64_t kMaxMaskWork = 8'000'000;
  const NodeMask& mask(int32_t node) const;
  const Network& network() const { return network_; }
  const TokenTrie& trie() const { return trie_; }

 private:
  struct LazyMask {
    std::once_flag once;
    NodeMask mask;
  };

  CompiledGrammar(Network network, const TokenTrie& trie);

  const Network network_;
  const TokenTrie& trie_;
  const std::vector<int32_t> mask_of_;  // by node: the first that shares its mask
  const std::unique_ptr<LazyMask[]> masks_;
};

// Follows one output. Used by one thread at a time. An output whose grammar is so ambiguous that a token takes too much work
// ends there: no token may come next, and it may not end either.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar);

  // Sets the bits of the tokens that may come next, and clears all others; `mask` has a bit per token id, from the lowest bit
  // of the first word on. No bit is set when only the end may come.
  void FillMask(absl::Span<uint32_t> mask);
  // The output may end here.
  bool complete() const { return state_.complete; }
  // Advances by a token's bytes; false, and nothing changed, when they do not match; false also when the output ends so.
  bool Accept(std::string_view bytes);

 private:
  static constexpr size_t kRememberedMasks = 32;
  static constexpr int64_t kMaxWork = 4'000'000;  // of a token; some 0.1 s
  static constexpr int32_t kMaxFrames = 500'000;

  std::shared_ptr<const CompiledGrammar> grammar_;
  GrammarStack stack_;
  GrammarStack::State state_;
  absl::flat_hash_map<std::vector<GrammarStack::Top>, std::vector<uint32_t>> remembered_;
};

}  // namespace berth::text
