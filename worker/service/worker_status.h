#pragma once

#include <string>

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
  };
  WorkerStatus(const WorkerIdentity& identity, const Parts& parts);

  // READY, and watches the engine's steps from now on.
  void Start();
  // DRAINING: not ready, but requests are taken for `accept` more, as gateways learn of it.
  void Drain(absl::Duration accept);
  void Undrain();
  // For good.
  void Fail(const absl::Status& error);

  const WorkerIdentity& identity() const { return identity_; }
  v1::WorkerState state() const { return state_; }
  int running() const;
  int waiting() const;
  // `links`: gateways attached.
  v1::LoadReport Load(int links) const;
  v1::Model Model() const;
  std::string journal_domain() const { return parts_.sessions.journal_domain(); }

 private:
  void SetState(v1::WorkerState state);
  void WatchSteps();

  const WorkerIdentity identity_;
  const Parts parts_;
  v1::WorkerState state_ = v1::WORKER_STATE_STARTING;
  v1::WorkerState state_before_stall_ = v1::WORKER_STATE_UNSPECIFIED;
  uint64_t drains_ = 0;
};

}  // namespace berth::service
