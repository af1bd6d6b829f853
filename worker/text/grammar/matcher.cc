#include "worker/text/grammar/matcher.h"

#include <algorithm>

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
    const Network::Node& node = network_.nodes[open_[0].node];
    if (node.calls.empty() && !node.accepting) {
      state.tops = open_;
      return;
    }
  }
  seen_.clear();
  while (!open_.empty()) {
    const Top top = open_.back();
    open_.pop_back();
    if (std::find(seen_.begin(), seen_.end(), top) != seen_.end()) continue;
    seen_.push_back(top);
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
  std::sort(state.tops.begin(), state.tops.end());
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

absl::StatusOr<std::shared_ptr<const CompiledGrammar>> CompiledGrammar::Make(const Grammar& grammar, const TokenTrie& trie) {
  BERTH_ASSIGN_OR_RETURN(Network network, BuildNetwork(grammar));
  std::shared_ptr<CompiledGrammar> compiled(new CompiledGrammar(std::move(network), trie));
  for (int32_t node = 0; node < static_cast<int32_t>(compiled->network_.nodes.size()); ++node) {
    compiled->masks_.push_back(compiled->MakeMask(node));
  }
  return compiled;
}

CompiledGrammar::NodeMask CompiledGrammar::MakeMask(int32_t node) const {
  NodeMask mask;
  GrammarStack stack(network_);
  std::vector<bool> ended = {false};  // by depth: the rule ended before this byte
  std::vector<size_t> path;           // nodes of mask.undecided that are not closed yet, by depth
  const auto close = [&](int32_t depth) {
    for (; path.size() >= static_cast<size_t>(depth); path.pop_back()) {
      mask.undecided[path.back()].end = static_cast<int32_t>(mask.undecided.size());
    }
  };
  WalkTrie(trie_.nodes, {.tops = {{node, GrammarStack::kBottom}}}, stack,
           [&](const TokenTrie::Node& at, const GrammarStack::State& state) {
             ended.resize(at.depth + 1);
             const bool ended_before = ended[at.depth - 1];
             ended[at.depth] = ended_before || state.complete;
             const bool inside = !state.tops.empty() || state.complete;
             if (!inside && !ended_before) return false;
             close(at.depth);
             TokenTrie::Node copy = at;
             if (inside) {
               mask.allowed.insert(mask.allowed.end(), trie_.tokens.begin() + at.first_token,
                                   trie_.tokens.begin() + at.end_token);
               copy.end_token = copy.first_token;
             }
             path.push_back(mask.undecided.size());
             mask.undecided.push_back(copy);
             return true;
           });
  close(1);
  // Only the branches with undecided tokens are kept.
  std::vector<TokenTrie::Node> kept;
  std::vector<int32_t> place(mask.undecided.size() + 1);
  std::vector<bool> wanted(mask.undecided.size());
  for (int32_t i = static_cast<int32_t>(mask.undecided.size()) - 1, last = i + 1; i >= 0; --i) {
    if (mask.undecided[i].first_token < mask.undecided[i].end_token) last = i;
    wanted[i] = last < mask.undecided[i].end;
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    place[i] = static_cast<int32_t>(kept.size());
    if (wanted[i]) kept.push_back(mask.undecided[i]);
  }
  place.back() = static_cast<int32_t>(kept.size());
  for (TokenTrie::Node& one : kept) one.end = place[one.end];
  mask.undecided = std::move(kept);
  mask.allowed.shrink_to_fit();
  return mask;
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
