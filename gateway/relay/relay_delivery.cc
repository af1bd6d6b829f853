// What callers read: they are told once per turn, and given up when they do not read.

#include <algorithm>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// One step of many choices with log-probabilities is 64 KiB already, and leaves message by message.
constexpr size_t kPendingBytesPerChoice = 8 << 10;

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

// What is written to one connection leaves together if nothing comes between (rpc::Gather), and costs a fraction of what leaves
// alone: those who share one come first, so that few wait for the writes of many, and these little longer. Returns how many
// they are.
size_t Relay::ByConnection() {
  struct Ready {
    bool alone = false;
    int connection = -1;
    uint64_t id = 0;
  };
  std::vector<Ready> all;
  absl::flat_hash_map<int, int> ready_of;
  for (const uint64_t id : ready_) {
    const auto it = streams_.find(id);
    const int connection = it == streams_.end() ? -1 : it->second->sink->connection();
    all.push_back({.connection = connection, .id = id});
    ++ready_of[connection];
  }
  for (Ready& each : all) each.alone = each.connection >= 0 && ready_of[each.connection] == 1;
  std::stable_sort(all.begin(), all.end(), [](const Ready& a, const Ready& b) {
    return std::tie(a.alone, a.connection) < std::tie(b.alone, b.connection);
  });
  std::transform(all.begin(), all.end(), ready_.begin(), [](const Ready& each) { return each.id; });
  return std::count_if(all.begin(), all.end(), [](const Ready& each) { return !each.alone; });
}

void Relay::FlushReady() {
  const size_t shared = ready_.size() > 1 ? ByConnection() : 0;
  for (size_t i = 0; i < ready_.size(); ++i) {
    // The first who is alone has let go what was held back for the others. The kernel likes to wake them up on this core, whose
    // next milliseconds the writes to those alone would take.
    if (shared > 0 && i == shared + 1) std::this_thread::yield();
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
  const size_t choices = stream.spec().sampling().choice_count();
  if (outbox.pending_bytes() > std::max(options_.max_pending_bytes, choices * kPendingBytesPerChoice)) return GiveUp(stream);
  if (!stream.unread_timer.has_value()) SetTimer(stream, &Stream::unread_timer, options_.max_unread, &Relay::GiveUp);
}

void Relay::GiveUp(Stream& stream) {
  metrics_.slow_client_aborts.Increment();
  EndStream(stream, SlowClientError());
  stream.given_up = true;
  MarkReady(stream);
}

}  // namespace berth::relay
