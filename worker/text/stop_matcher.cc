#include "worker/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace berth::text {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop)
    : stops_(std::move(stops)), include_stop_(include_stop) {
  for (size_t i = 0; i < stops_.size(); ++i) AddStop(i);
  LinkSuffixes();
}

void StopMatcher::AddStop(size_t index) {
  if (stops_[index].empty()) return;
  uint32_t state = 0;
  for (char byte : stops_[index]) {
    const auto next = static_cast<uint32_t>(states_.size());
    const auto [edge, is_new] = edges_.try_emplace(Edge(state, byte), next);
    if (is_new) states_.push_back({.parent = state, .byte = byte, .depth = states_[state].depth + 1});
    state = edge->second;
  }
  states_[state].stop = static_cast<int32_t>(index);
}

void StopMatcher::LinkSuffixes() {
  // Breadth first: a state's suffix is shorter than the state.
  std::vector<uint32_t> order(states_.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return states_[a].depth < states_[b].depth; });
  for (uint32_t id : order) {
    State& state = states_[id];
    if (state.depth < 2) continue;
    state.suffix = Next(states_[state.parent].suffix, state.byte);
    if (state.stop < 0) state.stop = states_[state.suffix].stop;
  }
}

uint32_t StopMatcher::Next(uint32_t state, char byte) const {
  while (true) {
    if (const auto edge = edges_.find(Edge(state, byte)); edge != edges_.end()) return edge->second;
    if (state == 0) return 0;
    state = states_[state].suffix;
  }
}

StopMatcher::Result StopMatcher::Append(std::string_view piece) {
  Result result;
  if (states_.size() == 1) {
    result.text = piece;
    return result;
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    state_ = Next(state_, piece[i]);
    const int32_t stop = states_[state_].stop;
    if (stop < 0) continue;
    held_.append(piece.substr(0, i + 1));
    result.match = stops_[stop];
    result.match_end = appended_ + i + 1;
    result.text = held_.substr(0, held_.size() - (include_stop_ ? 0 : result.match->size()));
    held_.clear();
    return result;
  }
  appended_ += piece.size();
  held_.append(piece);
  const size_t final_size = held_.size() - states_[state_].depth;
  result.text = held_.substr(0, final_size);
  held_.erase(0, final_size);
  return result;
}

std::string StopMatcher::Finish() { return std::exchange(held_, {}); }

}  // namespace berth::text
