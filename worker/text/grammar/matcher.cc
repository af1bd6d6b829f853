#include "worker/text/grammar/matcher.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "absl/hash/hash.h"
#include "base/status.h"

namespace berth::text {
namespace {

void SetBit(int32_t id, absl::Span<uint32_t> mask) { mask[id / 32] |= 1u << (id % 32); }

// Reads the tokens of a trie from `start` on, until the stack's work is `most_work`. `visit(node, state)` says whether the
// subtree under the node is of interest.
template <typename Visit>
void WalkTrie(absl::Span<const TokenTrie::Node> nodes, const GrammarStack::State& start, GrammarStack& stack, int64_t most_work,
              Visit visit) {
  std::vector<GrammarStack::State> states = {start};  // by depth
  for (size_t i = 0; i < nodes.size() && stack.work() < most_work;) {
    const TokenTrie::Node& node = nodes[i];
    if (states.size() <= static_cast<size_t>(node.depth)) states.resize(node.depth + 1);
    stack.Step(states[node.depth - 1], node.byte, states[node.depth]);
    i = visit(node, states[node.depth]) ? i + 1 : node.end;
  }
}

}  // namespace

void GrammarStack::Step(const State& state, uint8_t byte, State& out) {
  open_.clear();
  work_ += static_cast<int64_t>(state.tops.size());
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
  while (true) {
    while (!open_.empty()) {
      const Top top = open_.back();
      open_.pop_back();
      ++work_;
      if (!See(top)) continue;
      const Network::Node& node = network_.nodes[top.node];
      if (!node.edges.empty()) state.tops.push_back(top);
      for (const Network::Call& call : node.calls) {
        const Network::Node& callee = network_.nodes[call.start];
        begins_.push_back({call.start, callee.order, {call.target, top.frame}});
        std::push_heap(begins_.begin(), begins_.end(), Later);
        if (callee.may_be_empty) open_.push_back({call.target, top.frame});
      }
      if (!node.accepting) continue;
      if (top.frame == kBottom) state.complete = true;
      for (int32_t frame = top.frame; frame != kBottom && See({kReturned, frame}); frame = frames_[frame].next)
        open_.push_back({frames_[frame].node, frames_[frame].parent});
    }
    // A rule comes after all that may begin with it, so all its callers are known.
    if (begins_.empty()) break;
    const int32_t start = begins_.front().start;
    open_.push_back({start, TakeCallers()});
  }
  seen_.clear();
  if (!many_seen_.empty()) many_seen_.clear();
  std::sort(state.tops.begin(), state.tops.end());
}

bool GrammarStack::Later(const Begin& a, const Begin& b) {
  return std::tie(a.order, b.after.frame, b.after.node) < std::tie(b.order, a.after.frame, a.after.node);
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

// The newest frames come first in the list: lists that differ in those only share the rest.
int32_t GrammarStack::TakeCallers() {
  const int32_t start = begins_.front().start;
  int32_t list = kBottom;
  for (std::optional<Top> before; !begins_.empty() && begins_.front().start == start;) {
    const Top after = begins_.front().after;
    std::pop_heap(begins_.begin(), begins_.end(), Later);
    begins_.pop_back();
    if (after == before) continue;
    before = after;
    const Frame frame = {after.node, after.frame, list};
    const auto [it, added] = frame_ids_.try_emplace(frame, frames());
    if (added) frames_.push_back(frame);
    list = it->second;
  }
  return list;
}

void GrammarStack::DropFramesFrom(int32_t count) {
  while (frames() > count) {
    frame_ids_.erase(frames_.back());
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
    for (size_t i = 0; i < trie_.nodes.size() && stack_.work() < CompiledGrammar::kMaxMaskWork;) {
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
    mask.work = stack_.work();
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

// By node, the first of those that share its mask, as no text of up to `bytes` bytes tells them apart: equal hashes of all that
// can be reached in as many steps. A step reads a byte or more, so a called rule must not be able to end at once; nodes where
// one may share with none.
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
  absl::flat_hash_map<size_t, int32_t> firsts;
  for (int32_t i = 0; i < count; ++i) shared[i] = firsts.try_emplace(now[i], i).first->second;
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
  int64_t work = 0;
  for (int32_t node = 0; node < std::min(nodes, kFirstNodes) && work < kMaxMaskWork; ++node) {
    const NodeMask& mask = compiled->mask(node);
    if (mask.work >= kMaxMaskWork)
      return absl::InvalidArgumentError("grammar: too ambiguous; tokens can be read in too many ways");
    if (compiled->mask_of_[node] == node) work += mask.work;
  }
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
  const int64_t most_work = stack_.work() + kMaxWork;
  bool whole = true;
  for (auto top = state_.tops.begin(), next = top; top != state_.tops.end(); top = next) {
    next = std::find_if(top, state_.tops.end(), [&](const GrammarStack::Top& other) { return other.node != top->node; });
    const CompiledGrammar::NodeMask& node = grammar_->mask(top->node);
    whole = whole && node.work < CompiledGrammar::kMaxMaskWork;
    for (const int32_t id : node.allowed) SetBit(id, mask);
    for (size_t i = 0; i < node.allowed_bits.size(); ++i) mask[i] |= node.allowed_bits[i];
    WalkTrie(node.undecided, {.tops = {top, next}}, stack_, most_work,
             [&](const TokenTrie::Node& at, const GrammarStack::State& state) {
               if (state.tops.empty() && !state.complete) return false;
               for (int32_t i = at.first_token; i < at.end_token; ++i) SetBit(grammar_->trie().tokens[i], mask);
               return true;
             });
  }
  stack_.DropFramesFrom(frames);
  if (!whole || stack_.work() >= most_work) {
    state_ = {};
    std::fill(mask.begin(), mask.end(), 0);
  }
  if (remembered_.size() == kRememberedMasks) remembered_.clear();
  remembered_.emplace(state_.tops, std::vector<uint32_t>(mask.begin(), mask.end()));
}

bool GrammarMatcher::Accept(std::string_view bytes) {
  GrammarStack::State state = state_, next;
  const int64_t most_work = stack_.work() + kMaxWork;
  for (const char byte : bytes) {
    stack_.Step(state, static_cast<uint8_t>(byte), next);
    std::swap(state, next);
    if (stack_.work() >= most_work || stack_.frames() > kMaxFrames) {
      state_ = {};
      return false;
    }
    if (state.tops.empty() && !state.complete) return false;
  }
  state_ = std::move(state);
  return true;
}

}  // namespace berth::text
