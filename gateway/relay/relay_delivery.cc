// What callers read: they are told once per turn, and given up when they do not read.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

absl::Status SlowClientError() {
  return rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "SLOW_CLIENT", "the caller does not read its stream");
}

}  // namespace

std::optional<Outbox::Item> Relay::Read(uint64_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return std::nullopt;
  Stream& stream = *it->second;
  std::optional<Outbox::Item> item = stream.generation.outbox().Take();
  StopTimer(stream.unread_timer);
  if (item.has_value() && item->end.has_value()) {
    Erase(id);
  } else if (stream.generation.outbox().has_pending()) {
    SetTimer(stream, &Stream::unread_timer, options_.max_unread, &Relay::GiveUp);
  }
  return item;
}

void Relay::MarkReady(Stream& stream) {
  if (std::exchange(stream.notified, true)) return;
  ready_.push_back(stream.id);
}

// What is written to one connection leaves together, and costs a fraction of what leaves alone: those who share one come first,
// so that few wait for the writes of many, and these little longer.
void Relay::SharedFirst() {
  absl::flat_hash_map<int, int> ready_of;
  std::vector<std::pair<uint64_t, int>> connections;
  for (const uint64_t id : ready_) {
    const auto it = streams_.find(id);
    connections.emplace_back(id, it == streams_.end() ? -1 : it->second->sink->connection());
    ++ready_of[connections.back().second];
  }
  std::stable_partition(connections.begin(), connections.end(),
                        [&](const auto& each) { return each.second < 0 || ready_of[each.second] > 1; });
  std::transform(connections.begin(), connections.end(), ready_.begin(), [](const auto& each) { return each.first; });
}

void Relay::FlushReady() {
  if (ready_.size() > 1) SharedFirst();
  for (size_t i = 0; i < ready_.size(); ++i) {
    const uint64_t id = ready_[i];
    auto it = streams_.find(id);
    if (it == streams_.end()) continue;
    it->second->notified = false;
    if (it->second->given_up) {
      StreamSink& sink = *it->second->sink;
      Erase(id);
      sink.OnGivenUp(SlowClientError());
      continue;
    }
    if (it->second->generation.outbox().has_pending()) it->second->sink->OnReadable();
    it = streams_.find(id);
    if (it != streams_.end()) CheckSlowness(*it->second);
  }
  ready_.clear();
}

void Relay::CheckSlowness(Stream& stream) {
  const Outbox& outbox = stream.generation.outbox();
  if (!outbox.has_pending()) return;
  metrics_.unread_bytes.Observe(static_cast<double>(outbox.pending_bytes()));
  if (outbox.pending_bytes() > options_.max_pending_bytes) return GiveUp(stream);
  if (!stream.unread_timer.has_value()) SetTimer(stream, &Stream::unread_timer, options_.max_unread, &Relay::GiveUp);
}

void Relay::GiveUp(Stream& stream) {
  metrics_.slow_client_aborts.Increment();
  EndStream(stream, SlowClientError());
  stream.given_up = true;
  MarkReady(stream);
}

}  // namespace berth::relay
