#include "gateway/relay/relay.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/deadline.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

absl::Status DrainingError() {
  return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the gateway is shutting down");
}

// What is none may be anything that a header can hold; bytes that are not UTF-8 would end the link.
bool MayBeTraceparent(const std::string& value) {
  constexpr size_t kMaxBytes = 256;
  return value.size() <= kMaxBytes && std::all_of(value.begin(), value.end(), absl::ascii_isprint);
}

}  // namespace

Relay::Relay(RelayOptions options, std::vector<routing::WorkerAddress> workers, const base::Clock& clock, Timers& timers,
             LinkFactory factory, SessionLookup lookup, GatewayMetrics& metrics)
    : options_(std::move(options)),
      clock_(clock),
      timers_(timers),
      factory_(std::move(factory)),
      metrics_(metrics),
      view_(std::move(workers), options_.slow_factor),
      queue_(options_.max_waiting),
      intake_(metrics),
      sessions_({.move_idle = options_.move_idle, .session_ttl = options_.session_ttl}, view_, clock, std::move(lookup)),
      circuits_({.view = view_, .clock = clock, .timers = timers, .metrics = metrics}, [this] { PumpQueue(); }),
      attempts_(view_),
      cancels_(timers),
      heap_trimmer_([&timers](absl::Duration delay, absl::AnyInvocable<void()> trim) { timers.After(delay, std::move(trim)); },
                    base::TrimHeap) {
  for (int i = 0; i < view_.size(); ++i) AddLink(i);
}

void Relay::AddLink(int worker) {
  const WorkerLink::Context context{
      .gateway_id = options_.gateway_id, .clock = clock_, .timers = timers_, .factory = factory_, .owner = *this};
  links_.resize(view_.size());
  links_[worker] = std::make_unique<WorkerLink>(context, worker, view_.worker(worker).address);
  if (started_) links_[worker]->Open();
  ShowWorker(worker);
}

void Relay::SetWorkers(std::vector<routing::WorkerAddress> workers) {
  if (stopped_) return;
  const Turn turn(*this);
  for (int i = 0; i < view_.size(); ++i) {
    const routing::WorkerView& worker = view_.worker(i);
    if (!worker.discovered || std::find(workers.begin(), workers.end(), worker.address) != workers.end()) continue;
    const bool moved =
        std::any_of(workers.begin(), workers.end(), [&](const auto& other) { return other.id == worker.address.id; });
    view_.Remove(i);
    if (moved && worker.link != routing::LinkState::kDown) {
      links_[i]->Close();
      OnLost(i, WorkerLink::Loss::kOutOfReach,
             absl::UnavailableError(absl::StrCat("worker ", worker.address.id, " has another address now")));
    } else if (worker.open_streams == 0) {
      DropWorker(i);
    }
  }
  for (routing::WorkerAddress& worker : workers) {
    if (view_.Find(worker.id) < 0 && !view_.Restore(worker)) AddLink(view_.Add(std::move(worker)));
  }
  PumpQueue();
  if (on_change_) on_change_();
}

void Relay::DropWorker(int worker) {
  links_[worker]->Close();
  if (view_.worker(worker).link != routing::LinkState::kDown) view_.Detached(worker, routing::LinkState::kDown);
  metrics_.RemoveWorker(view_.worker(worker).address.id);
  circuits_.Forget(worker);
}

Relay::~Relay() { Stop(); }

void Relay::Start(std::function<void()> on_change) {
  on_change_ = std::move(on_change);
  started_ = true;
  for (const auto& link : links_) link->Open();
}

void Relay::SetDraining(bool draining) {
  if (!shutting_down_) draining_ = draining;
}

void Relay::Drain(absl::AnyInvocable<void()> idle) {
  draining_ = shutting_down_ = true;
  idle_ = std::move(idle);
  ReportIdle();
}

void Relay::ReportIdle() {
  if (!idle_ || !streams_.empty() || embeddings_ > 0) return;
  absl::AnyInvocable<void()> idle = std::move(idle_);
  idle_ = nullptr;
  idle();
}

void Relay::Stop() {
  if (std::exchange(stopped_, true)) return;
  draining_ = shutting_down_ = true;
  const Turn turn(*this);
  std::vector<uint64_t> ids;
  for (const auto& [id, stream] : streams_) ids.push_back(id);
  for (uint64_t id : ids) {
    if (const auto it = streams_.find(id); it != streams_.end()) {
      EndStream(*it->second, DrainingError());
    }
  }
  cancels_.LoseAll();
  for (const auto& link : links_) link->Close();
}

uint64_t Relay::Open(GenerationRequest request, StreamSink& sink) {
  const Turn turn(*this);
  const absl::Duration now = clock_.Monotonic();
  const absl::Status fixed = FixGeneration(request.spec, random_, clock_.Now());
  if (!MayBeTraceparent(request.traceparent)) request.traceparent.clear();
  const uint64_t id = ++last_id_;
  auto& slot = streams_[id];
  slot = std::make_unique<Stream>(id, std::move(request), sink, now);
  heap_trimmer_.SetStreams(streams_.size());
  Stream& stream = *slot;
  if (absl::Status status = fixed.ok() ? Accept(stream) : fixed; !status.ok()) {
    EndStream(stream, std::move(status));
  } else {
    Place(stream);
  }
  stream.notified = false;
  std::erase(ready_, id);
  metrics_.overhead_route.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - now));
  return id;
}

absl::Status Relay::Accept(Stream& stream) {
  const GenerationRequest& request = stream.generation.request();
  const absl::Duration left = request.deadline - clock_.Monotonic();
  if (left <= absl::ZeroDuration()) return rpc::DeadlineError();
  if (draining_) return DrainingError();
  if (!view_.KnowsModel(request.spec.model())) return NoWorkerError(view_, request.spec.model());
  BERTH_ASSIGN_OR_RETURN(stream.charged_tokens, intake_.Charge(request, view_.AttachedGateways(), clock_.Monotonic()));
  const auto [entry, fresh] = by_request_.try_emplace(RequestKey(request.tenant, request.spec.request_id()), stream.id);
  if (!fresh) {
    if (!request.spec.has_resume()) {
      return absl::AlreadyExistsError(absl::StrCat("request ", request.spec.request_id(), " is running"));
    }
    TakeOver(stream, *streams_.at(entry->second));
    by_request_[RequestKey(request.tenant, request.spec.request_id())] = stream.id;
  }
  stream.registered = true;
  retry_budget_.CountRequest(clock_.Monotonic());
  if (request.deadline != absl::InfiniteDuration()) SetTimer(stream, &Stream::deadline_timer, left, &Relay::OnDeadline);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Relay::BeginEmbedding(const rpc::Tenant& tenant,
                                              const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs, bool further) {
  if (draining_) return DrainingError();
  retry_budget_.CountRequest(clock_.Monotonic());
  BERTH_ASSIGN_OR_RETURN(const int64_t charged,
                         intake_.Charge(tenant, inputs, further, view_.AttachedGateways(), clock_.Monotonic()));
  ++embeddings_;
  return charged;
}

void Relay::EmbeddingEnded(const rpc::Tenant& tenant, int64_t tokens) {
  intake_.Correct(tenant, tokens);
  --embeddings_;
  ReportIdle();
}

void Relay::Abandon(uint64_t id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return;
  const Turn turn(*this);
  EndStream(*it->second, absl::CancelledError("the caller has gone"));
  Erase(id);
  PumpQueue();
}

const GenerationStream* Relay::Find(uint64_t id) const {
  const auto it = streams_.find(id);
  return it == streams_.end() ? nullptr : &it->second->generation;
}

void Relay::EndStream(Stream& stream, absl::Status status) {
  if (stream.state == State::kEnded) return;
  queue_.Remove(stream.id);
  metrics_.SetQueueDepth(queue_.depths());
  LeaveWorker(stream, /*cancel=*/true);
  if (stream.charged_tokens.has_value()) intake_.Settle(stream.generation, *stream.charged_tokens);
  stream.state = State::kEnded;
  StopTimer(stream.deadline_timer);
  StopTimer(stream.wait_timer);
  StopTimer(stream.unread_timer);
  StopTimer(stream.retry_timer);
  if (stream.registered) by_request_.erase(RequestKey(stream.generation.request().tenant, stream.spec().request_id()));
  if (!stream.generation.outbox().ended()) stream.generation.outbox().End(std::move(status));
  MarkReady(stream);
}

void Relay::Erase(uint64_t id) {
  StopTimer(streams_.at(id)->unread_timer);
  streams_.erase(id);
  heap_trimmer_.SetStreams(streams_.size());
  ReportIdle();
}

void Relay::LeaveWorker(Stream& stream, bool cancel) {
  CancelAttempt(stream, std::exchange(stream.taken_over, 0));
  const uint64_t attempt = std::exchange(stream.attempt, 0);
  if (cancel) {
    CancelAttempt(stream, attempt);
  } else if (attempt != 0) {
    EndAttempt(attempt);
  }
}

void Relay::TakeOver(Stream& stream, Stream& old) {
  // Of one that is parked nothing more will be heard.
  if (old.attempt != 0 && links_[old.worker]->attached()) {
    attempts_.Leave(old.attempt);
    old.taken_over = std::exchange(old.attempt, 0);
  }
  stream.taken_over = std::exchange(old.taken_over, 0);
  EndStream(old, absl::AbortedError("the stream was taken over by a newer one"));
}

void Relay::CancelAttempt(const Stream& stream, uint64_t attempt) {
  const Attempt* const running = attempts_.Find(attempt);
  if (running == nullptr) return;
  if (links_[running->worker]->Cancel(CancelOf(stream, attempt))) {
    attempts_.Leave(attempt);
  } else {
    EndAttempt(attempt);
  }
}

v1::LinkCancel Relay::CancelOf(const Stream& stream, uint64_t stream_id) {
  v1::LinkCancel cancel;
  cancel.set_stream_id(stream_id);
  cancel.set_request_id(stream.spec().request_id());
  cancel.set_tenant(stream.generation.request().tenant);
  return cancel;
}

void Relay::EndAttempt(uint64_t attempt) {
  const int worker = attempts_.End(attempt);
  ShowWorker(worker);
  if (!view_.worker(worker).discovered && view_.worker(worker).open_streams == 0) DropWorker(worker);
}

void Relay::StopTimer(std::optional<Timers::Id>& timer) {
  if (timer.has_value()) timers_.Cancel(*timer);
  timer.reset();
}

void Relay::SetTimer(Stream& stream, std::optional<Timers::Id> Stream::*timer, absl::Duration delay,
                     void (Relay::*expired)(Stream&)) {
  StopTimer(stream.*timer);
  stream.*timer = timers_.After(delay, [this, &stream, timer, expired] {
    const Turn turn(*this);
    (stream.*timer).reset();
    (this->*expired)(stream);
    PumpQueue();
  });
}

void Relay::OnDeadline(Stream& stream) {
  // Else only those that are quick enough would make the estimate.
  if (stream.state == State::kRunning) {
    intake_.Ended(stream.generation.request(), clock_.Monotonic() - stream.submitted_at, stream.generation.output_tokens());
  }
  EndStream(stream, rpc::DeadlineError());
}

}  // namespace berth::relay
