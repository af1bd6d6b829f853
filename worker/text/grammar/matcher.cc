#include "worker/text/grammar/matcher.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "base/status.h"

namespace berth::text {
namespace {

void SetBit(int32_t id, absl::Span<uint32_t> mask) { mask[id / 32] |= 1u << (id % 32); }

// Reads the tokens of a trie from `start` on. `visit(node, state)` says whether the subtree under the node is of interest.
template <typename Visit>
void WalkTrie(absl::Span<const TokenTrie::Node> nodes, const GrammarStack::State& start, GrammarStack& stack, Visit visit) {
  std::vector<GrammarStack::State> states = {start};  // by depth
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    if (states.size() <= static_cast<size_t>(node.depth)) states.resize(node.depth + 1);
    stack.Step(states[node.depth - 1], node.byte, states[node.depth]);
    i = visit(node, states[node.depth]) ? i + 1 : node.end;
  }
}

}  // namespace

void GrammarStack::Step(const State& state, uint8_t byte, State& out) {
  open_.clear();
  for (const Top& top : state.tops) {
    const int32_t target = network_.Next(top.node, byte);
    if (target >= 0) open_.push_back({target, top.frame});
  }
  Close(out);
}

void GrammarStack::Close(State& state) {
  state.tops.clear();
  state.complete = false;
  if (open_.size() == 1) {  // most bytes: inside one rule, nothing to follow
    if (network_.plain(open_[0].node)) {
      std::swap(state.tops, open_);
      return;
    }
  }
  while (!open_.empty()) {
    const Top top = open_.back();
    open_.pop_back();
    if (!See(top)) continue;
    const Network::Node& node = network_.nodes[top.node];
    if (!node.edges.empty()) state.tops.push_back(top);
    for (const Network::Call& call : node.calls) open_.push_back({call.start, FrameOf(call.target, top.frame)});
    if (!node.accepting) continue;
    if (top.frame == kBottom) {
      state.complete = true;
    } else {
      open_.push_back({frames_[top.frame].node, frames_[top.frame].parent});
    }
  }
  seen_.clear();
  if (!many_seen_.empty()) many_seen_.clear();
  std::sort(state.tops.begin(), state.tops.end());
}

bool GrammarStack::See(const Top& top) {
  constexpr size_t kFew = 32;
  if (seen_.size() < kFew) {
    if (std::find(seen_.begin(), seen_.end(), top) != seen_.end()) return false;
    seen_.push_back(top);
    return true;
  }
  if (many_seen_.empty()) many_seen_.insert(seen_.begin(), seen_.end());
  return many_seen_.insert(top).second;
}

int32_t GrammarStack::FrameOf(int32_t node, int32_t parent) {
  const auto [it, added] = frame_ids_.try_emplace({node, parent}, frames());
  if (added) frames_.push_back({node, parent});
  return it->second;
}

void GrammarStack::DropFramesFrom(int32_t count) {
  while (frames() > count) {
    frame_ids_.erase({frames_.back().node, frames_.back().parent});
    frames_.pop_back();
  }
}

namespace {

// Reads the trie from one node on, as if its rule were the whole grammar. States are kept by depth; most are one plain node,
// which needs no stack.
class MaskBuilder {
 public:
  MaskBuilder(const Network& network, const TokenTrie& trie) : network_(network), trie_(trie), stack_(network) {}

  CompiledGrammar::NodeMask Build(int32_t node) {
    CompiledGrammar::NodeMask mask;
    depths_ = {{.state = {.tops = {{node, GrammarStack::kBottom}}}}};
    for (size_t i = 0; i < trie_.nodes.size();) {
      const TokenTrie::Node& at = trie_.nodes[i];
      if (depths_.size() <= static_cast<size_t>(at.depth)) depths_.resize(at.depth + 1);
      const Depth& before = depths_[at.depth - 1];
      Depth& here = depths_[at.depth];
      const bool inside = Step(before, at.byte, here);
      const bool ended_before = before.ended;
      here.ended = ended_before || (here.plain < 0 && here.state.complete);
      if (inside) {
        mask.allowed.insert(mask.allowed.end(), trie_.tokens.begin() + at.first_token, trie_.tokens.begin() + at.end_token);
      } else if (ended_before && at.first_token < at.end_token) {
        AddUndecided(i, mask.undecided);
      }
      i = inside || ended_before ? i + 1 : at.end;
      path_.resize(at.depth);
      path_[at.depth - 1] = static_cast<int32_t>(&at - trie_.nodes.data());
    }
    CloseBranches(0, mask.undecided);
    if (mask.allowed.size() > trie_.tokens.size() / 32) {
      const int32_t highest = *std::max_element(mask.allowed.begin(), mask.allowed.end());
      mask.allowed_bits.resize(highest / 32 + 1);
      for (const int32_t id : mask.allowed) SetBit(id, absl::MakeSpan(mask.allowed_bits));
      mask.allowed.clear();
    }
    mask.allowed.shrink_to_fit();
    return mask;
  }

 private:
  struct Depth {
    int32_t plain = -1;  // the node when it is the whole state, else -1
    GrammarStack::State state;
    bool ended = false;  // the rule could end here or earlier
  };
  struct Branch {
    int32_t node;  // of the trie
    size_t copy;   // in the undecided part
  };

  // Whether the rule can read `byte` after `before`.
  bool Step(const Depth& before, uint8_t byte, Depth& here) {
    here.plain = -1;
    if (before.plain < 0) {
      stack_.Step(before.state, byte, here.state);
    } else {
      const int32_t next = network_.Next(before.plain, byte);
      if (next >= 0 && network_.plain(next)) {
        here.plain = next;
        return true;
      }
      stack_.Step({.tops = {{before.plain, GrammarStack::kBottom}}}, byte, here.state);
    }
    const std::vector<GrammarStack::Top>& tops = here.state.tops;
    if (tops.size() == 1 && tops[0].frame == GrammarStack::kBottom && network_.plain(tops[0].node)) here.plain = tops[0].node;
    return !tops.empty() || here.state.complete;
  }

  void CloseBranches(size_t depth, std::vector<TokenTrie::Node>& undecided) {
    for (; branches_.size() > depth; branches_.pop_back())
      undecided[branches_.back().copy].end = static_cast<int32_t>(undecided.size());
  }

  // Copies the trie's node `i` and those above it that are not there yet.
  void AddUndecided(size_t i, std::vector<TokenTrie::Node>& undecided) {
    const int32_t depth = trie_.nodes[i].depth;
    size_t shared = 0;
    while (shared < branches_.size() && shared + 1 < static_cast<size_t>(depth) && branches_[shared].node == path_[shared])
      ++shared;
    CloseBranches(shared, undecided);
    for (; shared < static_cast<size_t>(depth); ++shared) {
      const int32_t node = shared + 1 < static_cast<size_t>(depth) ? path_[shared] : static_cast<int32_t>(i);
      branches_.push_back({node, undecided.size()});
      undecided.push_back(trie_.nodes[node]);
      if (shared + 1 < static_cast<size_t>(depth)) undecided.back().end_token = undecided.back().first_token;
    }
  }

  const Network& network_;
  const TokenTrie& trie_;
  GrammarStack stack_;
  std::vector<Depth> depths_;
  std::vector<int32_t> path_;  // nodes of the trie from the first byte to the one that is read
  std::vector<Branch> branches_;
};

// By node, a number that nodes share only if no text of up to `bytes` bytes tells them apart: equal hashes of all that can be
// reached in as many steps. A step reads a byte or more, so a called rule must not be able to end at once; nodes where one may
// share with none.
std::vector<int32_t> ShareMasks(const Network& network, int bytes) {
  const auto count = static_cast<int32_t>(network.nodes.size());
  std::vector<size_t> now(count), next(count);
  for (int step = 0; step <= bytes; ++step) {
    for (int32_t i = 0; i < count; ++i) {
      const Network::Node& node = network.nodes[i];
      const bool alone = std::any_of(node.calls.begin(), node.calls.end(),
                                     [&](const Network::Call& call) { return !network.plain(call.start); });
      size_t hash = alone ? absl::HashOf(i) : absl::HashOf(node.accepting, node.edges.size(), node.calls.size());
      if (!alone && step > 0) {
        for (const Network::Edge& edge : node.edges) hash = absl::HashOf(hash, edge.low, edge.high, now[edge.target]);
        for (const Network::Call& call : node.calls) hash = absl::HashOf(hash, call.start, now[call.target]);
      }
      next[i] = hash;
    }
    std::swap(now, next);
  }
  std::vector<int32_t> shared(count);
  absl::flat_hash_map<size_t, int32_t> numbers;
  for (int32_t i = 0; i < count; ++i)
    shared[i] = numbers.try_emplace(now[i], static_cast<int32_t>(numbers.size())).first->second;
  return shared;
}

}  // namespace

CompiledGrammar::CompiledGrammar(Network network, const TokenTrie& trie)
    : network_(std::move(network)),
      trie_(trie),
      mask_of_(ShareMasks(network_, trie.longest)),
      masks_(new LazyMask[network_.nodes.size()]) {}

absl::StatusOr<std::shared_ptr<const CompiledGrammar>> CompiledGrammar::Make(const Grammar& grammar, const TokenTrie& trie) {
  constexpr int32_t kFirstNodes = 300;
  BERTH_ASSIGN_OR_RETURN(Network network, BuildNetwork(grammar));
  const std::shared_ptr<const CompiledGrammar> compiled(new CompiledGrammar(std::move(network), trie));
  const auto nodes = static_cast<int32_t>(compiled->network_.nodes.size());
  for (int32_t node = 0; node < std::min(nodes, kFirstNodes); ++node) compiled->mask(node);
  return compiled;
}

const CompiledGrammar::NodeMask& CompiledGrammar::mask(int32_t node) const {
  LazyMask& lazy = masks_[mask_of_[node]];
  std::call_once(lazy.once, [&] { lazy.mask = MaskBuilder(network_, trie_).Build(node); });
  return lazy.mask;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const CompiledGrammar> grammar)
    : grammar_(std::move(grammar)), stack_(grammar_->network()), state_(stack_.Start()) {}

void GrammarMatcher::FillMask(absl::Span<uint32_t> mask) {
  const auto known = remembered_.find(state_.tops);
  if (known != remembered_.end()) {
    std::copy(known->second.begin(), known->second.end(), mask.begin());
    return;
  }
  std::fill(mask.begin(), mask.end(), 0);
  const int32_t frames = stack_.frames();
  for (const GrammarStack::Top& top : state_.tops) {
    const CompiledGrammar::NodeMask& node = grammar_->mask(top.node);
    for (const int32_t id : node.allowed) SetBit(id, mask);
    for (size_t i = 0; i < node.allowed_bits.size(); ++i) mask[i] |= node.allowed_bits[i];
    WalkTrie(node.undecided, {.tops = {top}}, stack_, [&](const TokenTrie::Node& at, const GrammarStack::State& state) {
      if (state.tops.empty() && !state.complete) return false;
      for (int32_t i = at.first_token; i < at.end_token; ++i) SetBit(grammar_->trie().tokens[i], mask);
      return true;
    });
  }
  stack_.DropFramesFrom(frames);
  if (remembered_.size() == kRememberedMasks) remembered_.clear();
  remembered_.emplace(state_.tops, std::vector<uint32_t>(mask.begin(), mask.end()));
}

bool GrammarMatcher::Accept(std::string_view bytes) {
  GrammarStack::State state = state_, next;
  for (const char byte : bytes) {
    stack_.Step(state, static_cast<uint8_t>(byte), next);
    std::swap(state, next);
    if (state.tops.empty() && !state.complete) return false;
  }
  state_ = std::move(state);
  return true;
}

}  // namespace berth::text
