#include "absl/strings/str_cat.h"
#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/deadline.h"
#include "proto/rpc/status.h"

namespace berth::relay {
absl::Status Relay::OnHello(int worker, const v1::WorkerHello& hello, bool same) {
  const Turn turn(*this);
  if (absl::Status status = view_.Attached(worker, hello, clock_.Monotonic()); !status.ok()) return status;
  ShowWorker(worker);
  for (Stream* stream : StreamsOf(worker)) {
    if (!same || stream->state != State::kParked) continue;
    if (stream->cancelled) links_[worker]->Cancel(CancelOf(*stream, 0));  // the first may be lost
    v1::Reattach reattach;
    reattach.set_stream_id(stream->attempt);
    reattach.set_request_id(stream->spec().request_id());
    reattach.set_tenant(stream->generation.request().tenant);
    for (int32_t count : stream->generation.received_tokens()) reattach.add_received_tokens(count);
    reattach.set_received_prompt_logprobs(stream->generation.received_prompt_logprobs());
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
    if (has_events && frame.step_time_micros() > 0) {
      circuits_.JudgePace(worker, routing::PaceKind::kStep, absl::Microseconds(frame.step_time_micros()));
    }
    for (v1::StreamEvent& event : *frame.mutable_events()) {
      if (event.has_cancel_answer()) {
        // Nobody waits for the answer to the cancel of a stream of this link.
        if (event.stream_id() == 0) {
          cancels_.Answer(worker, event.cancel_answer().cancel_id(), event.cancel_answer().found());
        }
      } else {
        HandleEvent(event, now);
      }
    }
    // Its last event may have ended the link to a worker that was removed.
    const bool attached = view_.worker(worker).link == routing::LinkState::kUp;
    if (const v1::WorkerState state = view_.worker(worker).load.state(); attached && state != before) {
      ShowWorker(worker);
      if (state == v1::WORKER_STATE_UNHEALTHY) {
        LoseAll(worker, absl::UnavailableError("the worker reports that it is unhealthy"), WorkerLink::Loss::kDied);
      }
      if (on_change_) on_change_();
    }
    PumpQueue();
  }
  if (has_events) metrics_.overhead_forward.Observe(absl::ToDoubleSeconds(clock_.Monotonic() - now));
}

void Relay::HandleEvent(v1::StreamEvent& event, absl::Duration now) {
  const Attempt* const attempt = attempts_.Find(event.stream_id());
  if (attempt == nullptr) return;
  const bool last = event.has_finished() || event.has_error();
  const uint64_t id = attempt->stream;
  // The first event comes of the first step.
  attempts_.EndSuspicion(event.stream_id());
  if (last) EndAttempt(event.stream_id());
  if (id == 0) return;
  Stream& stream = *streams_.at(id);
  stream.answered = true;
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
      if (rpc::CutShort(event.finished(), stream.generation.request().deadline - now)) return OnDeadline(stream);
      intake_.Ended(stream.generation.request(), now - stream.submitted_at, event.finished().usage().completion_tokens());
      circuits_.Success(stream.worker);
      sessions_.Note(stream.generation, stream.worker);
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
    // Of a worker with a queue it tells the load, not the speed.
    if (first && view_.worker(stream.worker).load.waiting() == 0) {
      circuits_.JudgePace(stream.worker, routing::PaceKind::kFirstToken, now - stream.submitted_at);
    }
    if (std::exchange(stream.in_gap, false)) metrics_.failover_gap.Observe(absl::ToDoubleSeconds(now - stream.last_tokens_at));
    stream.last_tokens_at = now;
  }
  if (absl::Status status = stream.generation.OnDelta(delta); !status.ok()) EndStream(stream, std::move(status));
  MarkReady(stream);
}

}  // namespace berth::relay
