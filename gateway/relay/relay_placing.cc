// The relay's way from a request to a worker: waiting, choosing, submitting.

#include <algorithm>
#include <utility>

#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "google/protobuf/util/time_util.h"
#include "proto/rpc/limits.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// Above all that callers can ask for: a stream that has begun does not wait behind those that have not.
constexpr int kResumePriority = rpc::kMaxPriority + 1;
constexpr absl::Duration kShedInterval = absl::Milliseconds(100);

absl::Status WaitedTooLongError() {
  return rpc::WithRetryAfter(
      rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "QUEUE_TIMEOUT", "no worker had room for the request in time"),
      absl::Seconds(5));
}

}  // namespace

void Relay::Place(Stream& stream) {
  if (Locate(stream)) return;
  // Those ahead come first; what they cannot take is free.
  if (queue_.HasAhead(WaitingPriority(stream))) PumpQueue();
  if (!TryPlace(stream)) Wait(stream);
}

bool Relay::Locate(Stream& stream) {
  const auto answer = [this, id = stream.id](int worker, const absl::Status& status, const v1::HasSessionResponse& response) {
    const auto it = streams_.find(id);
    if (it == streams_.end() || it->second->state == State::kEnded) return;
    const Turn turn(*this);
    if (sessions_.Heard(it->second->generation, it->second->session, worker, status, response)) Place(*it->second);
  };
  return sessions_.Begin(stream.generation, stream.session, answer);
}

int Relay::WaitingPriority(const Stream& stream) {
  return stream.resume.has_value() ? kResumePriority : stream.spec().priority();
}

void Relay::Wait(Stream& stream) {
  stream.state = State::kWaiting;
  stream.waiting_since = clock_.Monotonic();
  const int priority = WaitingPriority(stream);
  stream.likely_wait = intake_.LikelyWait(stream.spec().priority(), queue_.CountAhead(priority), attempts_.size());
  const absl::Duration longest = intake_.LongestWait(stream.spec().priority(), stream.likely_wait, stream.waiting_since);
  if (absl::Status late = CheckInTime(stream, longest); !late.ok()) return Shed(stream, "deadline", std::move(late));
  const absl::StatusOr<std::optional<uint64_t>> displaced = queue_.Push(stream.id, priority);
  if (!displaced.ok()) return Shed(stream, "queue_full", displaced.status());
  SetTimer(stream, &Stream::wait_timer, options_.max_wait, &Relay::OnWaitedTooLong);
  if (displaced->has_value()) Shed(*streams_.at(**displaced), "displaced", admission::QueueFullError());
  metrics_.SetQueueDepth(queue_.depths());
}

bool Relay::TryPlace(Stream& stream) {
  if (attempts_.size() >= StreamLimit()) return false;
  routing::RouteRequest request = RouteRequestFor(stream.generation);
  request.journal_domain = stream.journal_domain;
  if (const Attempt* const running = attempts_.Find(stream.taken_over); running != nullptr) {
    request.held_by = running->worker;
  } else {
    request.held_by = stream.session.held_by;
    request.moved = stream.session.moved;
  }
  request.avoid = stream.avoid;
  request.suspect = stream.suspect;
  const routing::RouteDecision decision = routing::Route(view_, request, clock_.Monotonic());
  if (decision.outcome == routing::RouteOutcome::kNoRoom) return false;
  const bool by_hint = stream.session.hinted && decision.worker == stream.session.held_by;
  metrics_.Routed(PolicyName(stream.spec()), by_hint ? "hint" : OutcomeName(decision));
  if (!stream.spec().session_id().empty()) {
    if (const char* reason = MoveReason(view_, request, decision)) metrics_.SessionMoved(reason);
  }
  if (decision.outcome == routing::RouteOutcome::kPlaced) {
    Submit(stream, decision);
  } else {
    EndStream(stream, stream.resume.has_value() ? WorkerLostError(stream.generation.outbox().end_seq())
                                                : NoWorkerError(view_, stream.spec().model()));
  }
  return true;
}

void Relay::Submit(Stream& stream, const routing::RouteDecision& decision) {
  StopTimer(stream.wait_timer);
  const uint64_t taken_over = std::exchange(stream.taken_over, 0);
  // Elsewhere it would go on for nobody; its own worker hands it over.
  if (const Attempt* const running = attempts_.Find(taken_over); running != nullptr && running->worker != decision.worker) {
    CancelAttempt(stream, taken_over);
  }
  const GenerationRequest& request = stream.generation.request();
  stream.state = State::kRunning;
  stream.worker = decision.worker;
  stream.submitted_at = clock_.Monotonic();
  stream.attempt = attempts_.Begin({.worker = decision.worker, .stream = stream.id, .suspect = stream.suspect});
  stream.answered = false;
  sessions_.Note(stream.generation, decision.worker);
  ShowWorker(decision.worker);
  v1::Submit submit;
  submit.set_stream_id(stream.attempt);
  *submit.mutable_generation() = stream.resume.has_value() ? *stream.resume : request.spec;
  submit.set_tenant(request.tenant);
  if (request.deadline != absl::InfiniteDuration()) {
    *submit.mutable_timeout() = google::protobuf::util::TimeUtil::NanosecondsToDuration(
        absl::ToInt64Nanoseconds(std::max(request.deadline - clock_.Monotonic(), absl::ZeroDuration())));
  }
  submit.set_affinity(decision.affinity);
  for (const std::string& holder : stream.generation.lost_holders()) submit.add_lost_holders(holder);
  submit.set_traceparent(request.traceparent);
  submit.set_suspect(stream.suspect);
  links_[decision.worker]->Submit(std::move(submit));
}

void Relay::PumpQueue() {
  if (queue_.size() == 0) return;
  const Turn turn(*this);
  ShedLate();
  if (!MayPlace()) return;
  for (uint64_t id : queue_.InOrder()) {
    if (!MayPlace()) break;
    const auto it = streams_.find(id);
    if (it == streams_.end() || !TryPlace(*it->second)) continue;
    queue_.Remove(id);
    metrics_.queue_wait.Observe(absl::ToDoubleSeconds(NoteWait(*it->second)));
  }
  metrics_.SetQueueDepth(queue_.depths());
}

absl::Duration Relay::NoteWait(const Stream& stream) {
  const absl::Duration now = clock_.Monotonic(), waited = now - stream.waiting_since;
  if (!stream.resume.has_value()) intake_.Waited(stream.spec().priority(), stream.likely_wait, waited, now);
  return waited;
}

bool Relay::MayPlace() const {
  // With nobody attached all that wait are told so.
  const bool room = view_.AnyRoom(clock_.Monotonic()) || view_.UpCount() == 0;
  return room && attempts_.size() < StreamLimit();
}

void Relay::OnWaitedTooLong(Stream& stream) { Shed(stream, "queue_timeout", WaitedTooLongError()); }

void Relay::Shed(Stream& stream, const char* reason, absl::Status status) {
  metrics_.Shed(reason, stream.spec().priority(), clock_.Monotonic() - stream.accepted_at);
  EndStream(stream, std::move(status));
}

absl::Status Relay::CheckInTime(const Stream& stream, absl::Duration wait) const {
  if (stream.resume.has_value()) return absl::OkStatus();
  return intake_.CheckInTime(stream.generation.request(), wait, clock_.Monotonic());
}

void Relay::ShedLate() {
  const absl::Duration now = clock_.Monotonic();
  if (now < next_shed_) return;
  next_shed_ = now + kShedInterval;
  for (uint64_t id : queue_.InOrder()) {
    Stream& stream = *streams_.at(id);
    absl::Status late = CheckInTime(stream, absl::ZeroDuration());
    if (late.ok()) continue;
    NoteWait(stream);
    Shed(stream, "late", std::move(late));
  }
}

int Relay::StreamLimit() const { return std::max(1, options_.max_streams / view_.AttachedGateways()); }

}  // namespace berth::relay
