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

// Where a text stands in a network: the nodes that may read its next byte, each with the frame that its rule returns to. Frames
// are a tree of return nodes, equal ones stored once.
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

 private:
  struct Frame {
    int32_t node, parent;
  };

  State Close(std::vector<Top> tops) {
    State state;
    open_ = std::move(tops);
    Close(state);
    return state;
  }
  // Follows the calls and returns of open_; `state` takes what remains.
  void Close(State& state);
  bool See(const Top& top);  // false: Close saw it before
  int32_t FrameOf(int32_t node, int32_t parent);

  const Network& network_;
  std::vector<Frame> frames_;
  absl::flat_hash_map<std::pair<int32_t, int32_t>, int32_t> frame_ids_;
  std::vector<Top> open_, seen_;        // the first that Close saw: a few are found faster so
  absl::flat_hash_set<Top> many_seen_;  // all, where they are more
};

// A grammar made ready for one vocabulary. Thread-safe; what is known of a node is worked out when it is first asked for, and
// of the first nodes at once. Nodes that the longest token cannot tell apart, like most places of a string with a limit, share
// it.
class CompiledGrammar {
 public:
  // `trie` must outlive it.
  static absl::StatusOr<std::shared_ptr<const CompiledGrammar>> Make(const Grammar& grammar, const TokenTrie& trie);

  // What is known of a node alone, whatever its rule returns to.
  struct NodeMask {
    // Tokens that stay inside the rule or end with it: ids where they are few, else a bit each.
    std::vector<int32_t> allowed;
    std::vector<uint32_t> allowed_bits;
    std::vector<TokenTrie::Node> undecided;  // those that go on after its end, as a part of the trie
  };
  // A millisecond or so for a node that reads free text, the first time for those that share its mask.
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
  const std::vector<int32_t> mask_of_;  // by node
  const std::unique_ptr<LazyMask[]> masks_;
};

// Follows one output. Used by one thread at a time.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar);

  // Sets the bits of the tokens that may come next, and clears all others; `mask` has a bit per token id, from the lowest bit
  // of the first word on. No bit is set when only the end may come.
  void FillMask(absl::Span<uint32_t> mask);
  // The output may end here.
  bool complete() const { return state_.complete; }
  // Advances by a token's bytes; false, and nothing changed, when they do not match.
  bool Accept(std::string_view bytes);

 private:
  static constexpr size_t kRememberedMasks = 32;

  std::shared_ptr<const CompiledGrammar> grammar_;
  GrammarStack stack_;
  GrammarStack::State state_;
  absl::flat_hash_map<std::vector<GrammarStack::Top>, std::vector<uint32_t>> remembered_;
};

}  // namespace berth::text
