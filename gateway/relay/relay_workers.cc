#include "absl/strings/str_cat.h"
#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// The worker did not run the request, or cannot go on with it, for reasons of its own: another one may.
bool IsWorkersFault(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable && rpc::Reason(status) != "JOURNAL_UNAVAILABLE";
}

}  // namespace

absl::Status Relay::OnHello(int worker, const v1::WorkerHello& hello, bool same) {
  const Turn turn(*this);
  if (absl::Status status = view_.Attached(worker, hello, clock_.Monotonic()); !status.ok()) return status;
  metrics_.SetWorker(view_.worker(worker));
  for (Stream* stream : StreamsOf(worker)) {
    if (!same || stream->state != State::kParked) continue;
    v1::Reattach reattach;
    reattach.set_stream_id(stream->attempt);
    reattach.set_request_id(stream->spec().request_id());
    reattach.set_tenant(stream->generation.request().tenant);
    for (int32_t count : stream->generation.received_tokens()) reattach.add_received_tokens(count);
    links_[worker]->Reattach(std::move(reattach));
  }
  if (on_change_) on_change_();
  return absl::OkStatus();
}

void Relay::OnFrame(int worker, v1::AttachResponse& frame) {
  const absl::Duration now = clock_.Monotonic();
  const bool has_events = frame.events_size() > 0;
  {
    const Turn turn(*this);
    const v1::WorkerState before = view_.worker(worker).load.state();
    if (frame.has_load()) {
      view_.Reported(worker, frame.load(), now);
    } else {
      view_.Heard(worker, now);
    }
    for (v1::StreamEvent& event : *frame.mutable_events()) {
      if (event.has_cancel_answer()) {
        // Nobody waits for the answer to the cancel of a stream of this link.
        if (event.stream_id() == 0) HandleCancelAnswer(worker, event.cancel_answer());
      } else {
        HandleEvent(event, now);
      }
    }
    if (const v1::WorkerState state = view_.worker(worker).load.state(); state != before) {
      metrics_.SetWorker(view_.worker(worker));
      if (state == v1::WORKER_STATE_UNHEALTHY) {
        LoseAll(worker, absl::UnavailableError("the worker reports that it is unhealthy"));
      }
      if (on_change_) on_change_();
    }
    PumpQueue();
  }
  if (has_events) metrics_.overhead_forward.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - now));
}

void Relay::HandleEvent(v1::StreamEvent& event, absl::Duration now) {
  const auto it = attempts_.find(event.stream_id());
  if (it == attempts_.end()) return;
  const bool last = event.has_finished() || event.has_error();
  const uint64_t id = it->second.stream;
  if (last) EraseAttempt(event.stream_id());
  if (id == 0) return;
  Stream& stream = *streams_.at(id);
  if (last) stream.attempt = 0;
  switch (event.event_case()) {
    case v1::StreamEvent::kStarted:
      if (absl::Status status = stream.generation.OnStarted(event.started()); !status.ok())
        EndStream(stream, std::move(status));
      MarkReady(stream);
      break;
    case v1::StreamEvent::kDelta:
      HandleTokens(stream, *event.mutable_delta(), now);
      break;
    case v1::StreamEvent::kFinished:
      wait_estimate_.Ended(now - stream.submitted_at, event.finished().usage().completion_tokens());
      stream.generation.OnFinished(*event.mutable_finished());
      EndStream(stream, absl::OkStatus());
      break;
    case v1::StreamEvent::kError:
      HandleError(stream, rpc::FromProto(event.error()));
      break;
    case v1::StreamEvent::kReattached:
      stream.state = State::kRunning;
      break;
    default:
      break;
  }
}

void Relay::HandleTokens(Stream& stream, v1::Delta& delta, absl::Duration now) {
  if (delta.token_ids_size() > 0) {
    const bool first = !stream.generation.has_tokens();
    (first ? metrics_.time_to_first_token : metrics_.inter_token_latency)
        .Observe(absl::ToDoubleSeconds(now - (first ? stream.accepted_at : stream.last_tokens_at)));
    stream.last_tokens_at = now;
  }
  if (absl::Status status = stream.generation.OnDelta(delta); !status.ok()) EndStream(stream, std::move(status));
  MarkReady(stream);
}

void Relay::HandleError(Stream& stream, const absl::Status& status) {
  const bool reattach_refused = stream.state == State::kParked;
  if (reattach_refused || IsWorkersFault(status)) {
    Lose(stream, status, /*died=*/false);
  } else {
    EndStream(stream, status);
  }
}

void Relay::Lose(Stream& stream, const absl::Status& why, bool died) {
  const routing::WorkerView& worker = view_.worker(stream.worker);
  LeaveWorker(stream, /*cancel=*/true);
  const bool had_tokens = stream.generation.has_tokens();
  if (died && !had_tokens && std::exchange(stream.suspect, true)) {
    return EndStream(stream, rpc::ErrorWithReason(absl::StatusCode::kInternal, "REQUEST_SUSPECT",
                                                  "two workers were lost before the request's first token"));
  }
  if (stream.failovers >= options_.max_failovers) {
    metrics_.FailedOver(had_tokens, false);
    return EndStream(stream, WorkerLostError(stream.generation.outbox().end_seq()));
  }
  if (stream.spec().session().mode() == v1::SESSION_MODE_INTERACTIVE) {
    if (worker.journal_domain.empty()) {
      metrics_.FailedOver(had_tokens, false);
      return EndStream(stream, rpc::ErrorWithReason(absl::StatusCode::kFailedPrecondition, "SESSION_LOST",
                                                    absl::StrCat("the session's history was at worker ", worker.address.id,
                                                                 ", which was lost: ", std::string(why.message()))));
    }
    stream.journal_domain = worker.journal_domain;
  }
  ++stream.failovers;
  stream.resume = stream.generation.ResumeSpec(worker.address.id);
  Place(stream);
  metrics_.FailedOver(had_tokens, stream.state != State::kEnded);
}

std::vector<Relay::Stream*> Relay::StreamsOf(int worker) {
  std::vector<Stream*> found;
  for (const auto& [id, stream] : streams_) {
    if (stream->attempt != 0 && stream->worker == worker) found.push_back(stream.get());
  }
  return found;
}

void Relay::LoseAll(int worker, const absl::Status& why) {
  for (Stream* stream : StreamsOf(worker)) Lose(*stream, why, /*died=*/true);
}

void Relay::OnBroken(int worker) {
  const Turn turn(*this);
  view_.Detached(worker, routing::LinkState::kReconnecting);
  metrics_.SetWorker(view_.worker(worker));
  for (Stream* stream : StreamsOf(worker)) stream->state = State::kParked;
  // Of abandoned requests nothing more will be heard.
  std::vector<uint64_t> abandoned;
  for (const auto& [id, attempt] : attempts_) {
    if (attempt.worker == worker && attempt.stream == 0) abandoned.push_back(id);
  }
  for (uint64_t id : abandoned) EraseAttempt(id);
  if (on_change_) on_change_();
}

void Relay::OnLost(int worker, const absl::Status& status) {
  const Turn turn(*this);
  if (view_.worker(worker).link == routing::LinkState::kUp) OnBroken(worker);
  view_.Detached(worker, routing::LinkState::kDown);
  metrics_.SetWorker(view_.worker(worker));
  LoseAll(worker, status);
  for (size_t i = cancels_.size(); i-- > 0;) {
    v1::CancelAnswer answer;
    answer.set_request_id(cancels_[i]->request_id);
    HandleCancelAnswer(worker, answer);
  }
  PumpQueue();
  if (on_change_) on_change_();
}

}  // namespace berth::relay
