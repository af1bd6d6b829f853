#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "grpcpp/alarm.h"
#include "grpcpp/completion_queue.h"
#include "proto/rpc/gather.h"

namespace berth::rpc {

class Shard;

// The completion of one gRPC operation: a member of the call it belongs to, armed once per operation. Thread: its shard.
class Event {
 public:
  explicit Event(absl::AnyInvocable<void(bool ok)> on_complete) : on_complete_(std::move(on_complete)) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // The tag to hand to gRPC. `keep` (the call) lives until the completion ran.
  void* Arm(Shard& shard, std::shared_ptr<void> keep);

  // Arm in two halves, for a tag that is delivered only under a condition which shows later.
  void* tag();
  void Expect(Shard& shard, std::shared_ptr<void> keep);

 private:
  friend class Shard;
  void Complete(bool ok);

  absl::AnyInvocable<void(bool)> on_complete_;
  std::shared_ptr<void> keep_;
};

// One completion queue and the one thread that serves it. All reactions of a shard's calls run on that thread, so a call needs
// no lock. Thread: the shard's own, unless a member says otherwise.
class Shard {
 public:
  using TimerId = std::pair<int64_t, uint64_t>;

  explicit Shard(std::unique_ptr<grpc::CompletionQueue> queue);
  ~Shard();  // Stop()

  // Any thread, once. Before it, operations may be started from the thread that calls Start.
  void Start();
  // Any thread but the shard's. Waits until no operation is outstanding (their owners cancel them), then joins. Posted
  // functions that did not run are destroyed.
  void Stop();

  // Any thread: runs `function` on the shard's thread, in order. Dropped after Stop.
  void Post(absl::AnyInvocable<void()> function);

  TimerId After(absl::Duration delay, absl::AnyInvocable<void()> function);
  // No effect on a timer that ran.
  void CancelTimer(TimerId id);

  grpc::CompletionQueue& queue() { return *queue_; }
  // Of what its calls write. A turn is what one completion, or the functions posted by then, and the timers due lead to.
  Gather& gather() { return gather_; }

 private:
  friend class Event;

  void Loop();
  void RunPosted();
  void RunDueTimers();

  const std::unique_ptr<grpc::CompletionQueue> queue_;
  Gather gather_;
  std::thread thread_;
  bool joined_ = false;
  int64_t outstanding_ = 0;
  std::map<TimerId, absl::AnyInvocable<void()>> timers_;
  uint64_t next_timer_ = 0;

  base::Mutex mutex_;
  grpc::Alarm wake_ ABSL_GUARDED_BY(mutex_);
  bool wake_armed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<absl::AnyInvocable<void()>> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::rpc
