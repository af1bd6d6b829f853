#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/heap_trimmer.h"
#include "gateway/admission/waiting_queue.h"
#include "gateway/relay/attempts.h"
#include "gateway/relay/circuits.h"
#include "gateway/relay/intake.h"
#include "gateway/relay/link_transport.h"
#include "gateway/relay/metrics.h"
#include "gateway/relay/outbox.h"
#include "gateway/relay/pending_cancels.h"
#include "gateway/relay/retry_budget.h"
#include "gateway/relay/session_locator.h"
#include "gateway/relay/stream.h"
#include "gateway/relay/timers.h"
#include "gateway/relay/worker_link.h"
#include "gateway/routing/cluster_view.h"
#include "gateway/routing/router.h"
#include "proto/berth/v1/inference.pb.h"

namespace berth::relay {

struct RelayOptions {
  std::string gateway_id;
  // Of all gateways together: each enforces its share.
  int max_streams = 8192;
  int max_waiting = 1024;
  absl::Duration max_wait = absl::Seconds(60);
  // A caller that leaves more than this unread, or 8 KiB per choice where that is more, or reads nothing for this long while
  // something waits, is given up.
  size_t max_pending_bytes = 64 << 10;
  absl::Duration max_unread = absl::Seconds(30);
  int max_failovers = 2;
  // Of SessionLocator.
  absl::Duration move_idle = absl::Seconds(60);
  absl::Duration session_ttl = absl::Hours(24);
  // A worker that is so many times slower than its peers is ejected for a while; 0: never.
  double slow_factor = routing::kSlowFactor;
};

// Learns that a stream has something to read. Called from within the relay: do not destroy it there; reading and abandoning are
// fine.
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void OnReadable() = 0;
  // Sinks with the same number write to one connection. -1: nothing is written for them alone.
  virtual int connection() { return -1; }
  // The caller does not read: the stream is over and forgotten, whatever was pending is dropped.
  virtual void OnGivenUp(const absl::Status& status) = 0;
};

// The heart of the gateway: every generation from its arrival to its end, the links to the workers, and the choice between
// them. A generation waits, runs at a worker, is parked for a moment when its link breaks, or is resumed on another worker when
// it was lost. Thread: one shard.
class Relay : private WorkerLink::Owner {
 public:
  Relay(RelayOptions options, std::vector<routing::WorkerAddress> workers, const base::Clock& clock, Timers& timers,
        LinkFactory factory, SessionLookup lookup, GatewayMetrics& metrics);
  ~Relay() override;

  // Opens the links. `on_change` runs whenever a worker came or went.
  void Start(std::function<void()> on_change);
  // Discovery's latest list. A worker that is not on it any more ends what it runs and gets nothing new; one at another address
  // is lost.
  void SetWorkers(std::vector<routing::WorkerAddress> workers);
  // Takes nothing new; `idle` runs once, when no stream and no embedding is left.
  void Drain(absl::AnyInvocable<void()> idle);
  // Refuses new generations, or takes them again; no effect once Drain or Stop was called.
  void SetDraining(bool draining);
  bool draining() const { return draining_; }
  // Ends all streams with UNAVAILABLE and closes the links.
  void Stop();

  // Takes a generation on. Whatever becomes of it, a refusal too, is read from the stream. `sink` is told of things to read
  // until the end was read or the stream abandoned; not during this call.
  uint64_t Open(GenerationRequest request, StreamSink& sink);
  // The next message or the end, which also forgets the stream; nothing when the caller must wait for OnReadable. Read only
  // what can be sent on at once: what is not read counts as pending.
  std::optional<Outbox::Item> Read(uint64_t id);
  // The caller went away: the worker is told, and the stream forgotten. No effect on a stream that is over.
  void Abandon(uint64_t id);
  // For the caller's metadata, once Started was read. Null when the stream is over.
  const GenerationStream* Find(uint64_t id) const;

  // Ends a running request of this tenant by its id, or by its session when the id is empty; asks the workers when it is not
  // one of this gateway. `done` hears whether it was found.
  void Cancel(const std::string& tenant, const v1::CancelRequest& request, absl::AnyInvocable<void(bool found)> done);

  // What is left of a tenant's limits, as of this gateway's share.
  admission::RateLimiter::Levels RateLevels(const rpc::Tenant& tenant) {
    return intake_.Levels(tenant, view_.AttachedGateways(), clock_.Monotonic());
  }

  // Lets an embedding in: takes a request, unless it is a `further` part of one, and the tokens of what is to be embedded, as
  // far as they can be told, from the tenant's limits; as RateLimiter::Take. UNAVAILABLE while the gateway drains. It is under
  // way until EmbeddingEnded, once.
  absl::StatusOr<int64_t> BeginEmbedding(const rpc::Tenant& tenant,
                                         const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs, bool further);
  // With the tokens that it used beyond the charge.
  void EmbeddingEnded(const rpc::Tenant& tenant, int64_t tokens);

  // Whether what a worker failed with `why`, before it had answered anything, may be tried at another one; it is counted then.
  bool TakeRetry(const absl::Status& why);

  // The worker that answers for a session, as SessionLocator::Find.
  void FindSession(const v1::HasSessionRequest& session, std::function<void(int worker)> done) const {
    sessions_.Find(session, std::move(done));
  }

  const routing::ClusterView& view() const { return view_; }
  int open_streams() const { return static_cast<int>(streams_.size()); }
  int waiting() const { return queue_.size(); }

 private:
  enum class State { kWaiting, kRunning, kParked, kEnded };
  struct Stream;
  using RequestKey = std::pair<std::string, std::string>;
  // Sinks are told at the end of the outermost turn, when nothing refers to a stream any more.
  class Turn;

  // relay_placing.cc: from a request to a worker.
  void Place(Stream& stream);
  // True when workers are asked for the stream's session first: Place is called again.
  bool Locate(Stream& stream);
  static int WaitingPriority(const Stream& stream);
  void Wait(Stream& stream);
  // False when it has to wait. It is ended when no worker can serve it.
  bool TryPlace(Stream& stream);
  void Submit(Stream& stream, const routing::RouteDecision& decision);
  void PumpQueue();
  // Of those that wait, some can go on.
  bool MayPlace() const;
  // A request that waited is begun or given up: for how long those behind it are told to wait.
  absl::Duration NoteWait(const Stream& stream);
  void OnWaitedTooLong(Stream& stream);
  // For want of room; `reason` is GatewayMetrics::Shed's.
  void Shed(Stream& stream, const char* reason, absl::Status status);
  // Ends those that wait and would not end in time even if they ran now. Seldom: it looks at all of them.
  void ShedLate();
  // A stream that has begun is not asked.
  absl::Status CheckInTime(const Stream& stream, absl::Duration wait) const;
  int StreamLimit() const;

  // relay.cc: the life of a stream.
  void AddLink(int worker);
  // Of a worker that discovery does not name any more, once nothing runs there.
  void DropWorker(int worker);
  absl::Status Accept(Stream& stream);
  // What waits in the outbox is still delivered before `status`.
  void EndStream(Stream& stream, absl::Status status);
  // Ends the running attempt on our side, and one that was taken over; with `cancel` the worker is told, and keeps its place
  // until it answers.
  void LeaveWorker(Stream& stream, bool cancel);
  // The stream goes on with what `old`, which ends, runs at a worker.
  void TakeOver(Stream& stream, Stream& old);
  // An attempt of this stream's request, if it still runs. Its worker is told.
  void CancelAttempt(const Stream& stream, uint64_t attempt);
  // `stream_id` 0: by the request's id.
  static v1::LinkCancel CancelOf(const Stream& stream, uint64_t stream_id);
  void Erase(uint64_t id);
  void ReportIdle();
  void EndAttempt(uint64_t attempt);
  void StopTimer(std::optional<Timers::Id>& timer);
  void SetTimer(Stream& stream, std::optional<Timers::Id> Stream::*timer, absl::Duration delay,
                void (Relay::*expired)(Stream&));
  void OnDeadline(Stream& stream);
  void ShowWorker(int worker) { metrics_.SetWorker(view_.worker(worker), clock_.Monotonic()); }

  // relay_delivery.cc: what callers read, Read among it.
  void MarkReady(Stream& stream);
  size_t ByConnection();
  void FlushReady();
  void CheckSlowness(Stream& stream);
  void GiveUp(Stream& stream);

  // relay_workers.cc: what workers send.
  void HandleEvent(v1::StreamEvent& event, absl::Duration now);
  void HandleTokens(Stream& stream, v1::Delta& delta, absl::Duration now);
  void HandleError(Stream& stream, const absl::Status& status);

  // relay_failover.cc: workers that are lost, or do not go on.
  using Loss = std::optional<WorkerLink::Loss>;
  // The worker does not go on with the stream: continues it on another one, or ends it. `loss`: the worker is gone, maybe
  // because of it; nothing: it gave the stream up.
  void Lose(Stream& stream, const absl::Status& why, Loss loss);
  void LoseAll(int worker, const absl::Status& why, Loss loss);
  // Why the stream may not go on elsewhere, if so.
  absl::Status MayGoOn(Stream& stream, const absl::Status& why, Loss loss, bool handed_over);
  std::vector<Stream*> StreamsOf(int worker);

  absl::Status OnHello(int worker, const v1::WorkerHello& hello, bool same) override;
  void OnFrame(int worker, v1::AttachResponse& frame) override;
  void OnBroken(int worker) override;
  void OnLost(int worker, WorkerLink::Loss loss, const absl::Status& status) override;

  const RelayOptions options_;
  const base::Clock& clock_;
  Timers& timers_;
  const LinkFactory factory_;
  GatewayMetrics& metrics_;
  routing::ClusterView view_;
  admission::WaitingQueue queue_;
  Intake intake_;
  RetryBudget retry_budget_;
  SessionLocator sessions_;
  Circuits circuits_;
  std::vector<std::unique_ptr<WorkerLink>> links_;
  std::function<void()> on_change_;
  bool started_ = false, draining_ = false, shutting_down_ = false, stopped_ = false;
  absl::AnyInvocable<void()> idle_;
  absl::BitGen random_;

  int embeddings_ = 0;
  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Stream>> streams_;
  Attempts attempts_;
  absl::flat_hash_map<RequestKey, uint64_t> by_request_;
  PendingCancels cancels_;
  base::HeapTrimmer heap_trimmer_;
  absl::Duration next_shed_ = -absl::InfiniteDuration();
  int turns_ = 0;
  std::vector<uint64_t> ready_;
};

}  // namespace berth::relay
