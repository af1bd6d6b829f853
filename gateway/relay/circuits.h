#pragma once

#include <functional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "gateway/relay/metrics.h"
#include "gateway/relay/timers.h"
#include "gateway/routing/cluster_view.h"

namespace berth::relay {

// Workers that fail or crawl are ejected for a while: the view decides, this tells it what happens, counts, and ends each
// ejection in time. Thread: one owner.
class Circuits {
 public:
  struct Parts {
    routing::ClusterView& view;
    const base::Clock& clock;
    Timers& timers;
    GatewayMetrics& metrics;
  };
  // `on_half_open` runs from a timer: an ejection is over, there may be room again.
  Circuits(const Parts& parts, std::function<void()> on_half_open) : parts_(parts), on_half_open_(std::move(on_half_open)) {}
  ~Circuits();

  // The worker died, or failed a request for a reason of its own.
  void Fault(int worker);
  // A step there, or a request's way to its first token, took `time`.
  void JudgePace(int worker, routing::PaceKind kind, absl::Duration time);
  // A request ended well there.
  void Success(int worker);
  // The worker is gone for good.
  void Forget(int worker);

 private:
  void OnEjected(int worker);
  void Show(int worker, routing::Circuit changed);

  const Parts parts_;
  const std::function<void()> on_half_open_;
  // Of workers that are ejected: the end of it.
  absl::flat_hash_map<int, Timers::Id> timers_;
};

}  // namespace berth::relay
