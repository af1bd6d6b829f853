#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/routing/pace.h"
#include "gateway/routing/worker_list.h"
#include "proto/berth/v1/worker.pb.h"

namespace berth::routing {

// Age of a worker's last frame from which it gets no new work, and from which it counts as failed.
inline constexpr absl::Duration kSuspicionAge = absl::Seconds(1);
inline constexpr absl::Duration kFailureAge = absl::Milliseconds(2500);

// So many faults in a row eject a worker: it gets no work that another can do. Another fault after that time ejects it again,
// for twice as long; a request that ends well closes the matter.
inline constexpr int kFaultsToEject = 5;
inline constexpr absl::Duration kFirstEjection = absl::Seconds(5);
inline constexpr absl::Duration kMaxEjection = absl::Seconds(60);

// So many windows (Pace) in a row in which a worker was `slow_factor` times slower than the median of its peers eject it, too.
inline constexpr int kSlowWindowsToEject = 3;
inline constexpr absl::Duration kFirstSlowEjection = absl::Seconds(20);
inline constexpr double kSlowFactor = 5;

// What a worker is compared with its peers by.
enum class PaceKind { kStep = 0, kFirstToken = 1 };

enum class LinkState {
  kDown,
  // Lost a moment ago: its streams may still be taken up again, new ones wait.
  kReconnecting,
  kUp,
};

// Whether a worker's faults keep work from it. The values are those of the metric.
enum class Circuit { kClosed = 0, kHalfOpen = 1, kOpen = 2 };

// What this gateway knows of one worker.
struct WorkerView {
  WorkerAddress address;
  // False once discovery does not name it any more: it gets no new work, and its place may go to another worker.
  bool discovered = true;
  uint64_t hash = 0;
  LinkState link = LinkState::kDown;
  // Of the newest hello; zero before the first.
  v1::Incarnation incarnation;
  std::vector<v1::Model> models;
  std::string journal_domain;
  v1::LoadReport load;
  // Base::Clock::Monotonic of the last frame.
  absl::Duration last_frame;
  // Of this gateway, submitted and not ended.
  int open_streams = 0;
  // A suspect runs there that has not finished its first step: no other may join it.
  bool has_suspect = false;
  // In a row: no request ended well since the first of them.
  int faults = 0;
  int ejections = 0;
  absl::Duration ejected_until = -absl::InfiniteDuration();
  std::array<Pace, 2> paces;  // by PaceKind

  bool is_slow() const { return paces[0].slow_windows > 0 || paces[1].slow_windows > 0; }
  bool HasRoom() const { return open_streams < load.submit_credit(); }
  Circuit circuit(absl::Duration now) const;
  // The served model of this name, or the only one when `name` is empty; null when there is none.
  const v1::Model* FindModel(std::string_view name) const;
};

// All workers, by index. Thread: one owner.
class ClusterView {
 public:
  // With `slow_factor` 0 no worker is ejected for being slow.
  explicit ClusterView(std::vector<WorkerAddress> workers, double slow_factor = kSlowFactor);

  int size() const { return static_cast<int>(workers_.size()); }
  const WorkerView& worker(int index) const { return workers_[index]; }
  // The discovered workers, best for the key first.
  std::vector<int> Rank(uint64_t key) const;
  // -1 when no such worker is discovered.
  int Find(std::string_view worker_id) const;
  // Discovery names a worker that it did not name before. Its index is that of a removed one without streams, or a new one.
  int Add(WorkerAddress address);
  void Remove(int index) { workers_[index].discovered = false; }
  // Discovery names a worker again that was removed and still has a link. False: there is none.
  bool Restore(const WorkerAddress& address);

  // A link's hello. FAILED_PRECONDITION, and nothing changes, when it names another worker or an older incarnation than the
  // last.
  absl::Status Attached(int index, const v1::WorkerHello& hello, absl::Duration now);
  void Reported(int index, const v1::LoadReport& load, absl::Duration now);
  // A frame without a load report.
  void Heard(int index, absl::Duration now) { workers_[index].last_frame = now; }
  // `state` is kDown or kReconnecting.
  void Detached(int index, LinkState state);
  void StreamOpened(int index) { ++workers_[index].open_streams; }
  void StreamClosed(int index);
  void SetSuspect(int index, bool there) { workers_[index].has_suspect = there; }
  // The worker died, or failed a request for a reason of its own. True when that ejects it. Never is more than half of
  // the workers ejected.
  bool Faulted(int index, absl::Duration now);
  // A step of the worker, or a request's way to its first token there, took `time`. True when that ejects it, for being much
  // slower than those that serve the same model.
  bool Timed(int index, PaceKind kind, absl::Duration time, absl::Duration now);
  // A request ended well there. True when that closes its circuit.
  bool Succeeded(int index);

  // Attached, ready and heard of lately.
  bool CanTakeNew(int index, absl::Duration now) const;
  // The same, but for a silence or a mending of its link, which end in a moment.
  bool MayTakeNew(int index) const;
  // Some worker has room, and can take new work or, while it drains, the turns of its sessions.
  bool AnyRoom(absl::Duration now) const;
  int UpCount() const;
  // Gateways that share the limits, this one included, as the workers report; at least 1.
  int AttachedGateways() const;
  // Of all attached workers, each name once, by name.
  std::vector<v1::Model> Models() const;
  // The name of a known model, for metrics; "other" for one that no worker serves.
  std::string ModelLabel(std::string_view name) const;
  // Some worker serves, or served before its link went down, the model of this name (or any, when `name` is empty).
  bool KnowsModel(std::string_view name) const;

 private:
  // The median over the worker's peers; nothing without any that was measured lately.
  std::optional<absl::Duration> PeersBest(int index, PaceKind kind, absl::Duration now) const;
  // For `first`, and twice as long each further time. False, and nothing happens, when it is ejected already or half of the
  // workers are.
  bool Eject(WorkerView& worker, absl::Duration first, absl::Duration now);

  const double slow_factor_;
  std::vector<WorkerView> workers_;
};

// Incarnations are ordered by start time, then by their random part.
bool IsOlder(const v1::Incarnation& a, const v1::Incarnation& b);
bool IsSame(const v1::Incarnation& a, const v1::Incarnation& b);

}  // namespace berth::routing
