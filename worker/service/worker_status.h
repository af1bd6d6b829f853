#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/berth/v1/worker.pb.h"
#include "proto/rpc/health.h"
#include "proto/rpc/incarnation.h"
#include "proto/rpc/shard.h"
#include "worker/engine/engine.h"
#include "worker/service/generation_core.h"
#include "worker/session/session_store.h"

namespace berth::service {

struct WorkerIdentity {
  std::string worker_id;
  v1::Incarnation incarnation;
  absl::Time joined;
  bool test_engine = false;
};

using rpc::IncarnationNumber;

// What this worker tells of itself, and whether it takes requests: drained by operators, given up when a step stalls. Thread:
// I/O thread.
class WorkerStatus {
 public:
  struct Parts {
    GenerationCore& core;
    engine::Engine& engine;
    session::SessionStore& sessions;
    rpc::HealthService& health;
    rpc::Shard& shard;
    const base::Clock& clock;
    // Of a drain, from its begin: how long requests are taken still, as gateways learn of it, and when what runs is handed
    // over.
    absl::Duration drain_accept = absl::Seconds(5), drain_deadline = absl::Seconds(30);
    std::function<void(const std::string&)> on_change;  // with the new state, in words; may be empty
  };
  WorkerStatus(const WorkerIdentity& identity, const Parts& parts);

  // READY, and watches the engine's steps from now on.
  void Start();
  // DRAINING, in steps (rule 29): not ready; no new sessions and requests; what still runs ends UNAVAILABLE "DRAINING", so that
  // gateways resume it elsewhere. A session's follow-up turns are taken to the end if no other worker can read its history.
  // `drained`, if any, runs when no gateway may send more and nothing runs.
  void Drain(absl::AnyInvocable<void()> drained = nullptr);
  void Undrain();
  // The last gateway has gone: nobody is left to learn of a drain.
  void OnUnlinked();
  // For good.
  void Fail(const absl::Status& error);

  const WorkerIdentity& identity() const { return identity_; }
  v1::WorkerState state() const { return state_; }  // any thread
  int running() const;
  int waiting() const;
  // `links`: gateways attached.
  v1::LoadReport Load(int links) const;
  v1::Model Model() const;
  std::string journal_domain() const { return parts_.sessions.journal_domain(); }

 private:
  void SetState(v1::WorkerState state, const std::string& words);
  void RefuseNew();
  void HandOver();
  void DuringDrain(absl::Duration delay, void (WorkerStatus::*step)());
  void WatchSteps();

  const WorkerIdentity identity_;
  const Parts parts_;
  std::atomic<v1::WorkerState> state_ = v1::WORKER_STATE_STARTING;
  v1::WorkerState state_before_stall_ = v1::WORKER_STATE_UNSPECIFIED;
  absl::Duration watched_at_ = absl::InfiniteDuration();
  // Begin of the last step that the whole process stood still in. It counts as begun when the process went on.
  absl::Duration forgiven_ = absl::InfiniteDuration(), resumed_at_;
  uint64_t drains_ = 0;
  bool accepting_ = false;  // though draining
  std::vector<absl::AnyInvocable<void()>> drained_;
};

}  // namespace berth::service
