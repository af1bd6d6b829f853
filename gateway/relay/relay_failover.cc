// What becomes of streams whose worker is lost, or does not go on with them.

#include <utility>

#include "absl/random/distributions.h"
#include "absl/strings/str_cat.h"
#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// Before a second retry, give or take a half.
constexpr absl::Duration kRetryBackoff = absl::Milliseconds(100);

bool IsDraining(const absl::Status& status) { return rpc::Reason(status) == "DRAINING"; }

// The worker did not run the request, or cannot go on with it, for reasons of its own: another one may.
bool MayGoElsewhere(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable && rpc::Reason(status) != "JOURNAL_UNAVAILABLE";
}

// Neither backpressure nor the caller's doing.
bool IsWorkersFault(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return MayGoElsewhere(status) && !IsDraining(status);
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

absl::Status SuspectError() {
  return rpc::ErrorWithReason(absl::StatusCode::kInternal, "REQUEST_SUSPECT",
                              "two workers were lost in the first step of the request");
}

absl::Status RetryBudgetError(const absl::Status& why) {
  return rpc::WithRetryAfter(
      rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "RETRY_BUDGET",
                           absl::StrCat("too many requests are being retried; this one failed: ", std::string(why.message()))),
      absl::Seconds(1));
}

absl::Status SessionLostError(const std::string& worker_id, const absl::Status& why) {
  return rpc::ErrorWithReason(
      absl::StatusCode::kFailedPrecondition, "SESSION_LOST",
      absl::StrCat("the session's history was at worker ", worker_id, ", which was lost: ", std::string(why.message())));
}

}  // namespace

void Relay::HandleError(Stream& stream, const absl::Status& status) {
  const bool reattach_refused = stream.state == State::kParked;
  if (!reattach_refused && IsWorkersFault(status)) circuits_.Fault(stream.worker);
  if (reattach_refused || MayGoElsewhere(status)) {
    Lose(stream, status, std::nullopt);
  } else {
    EndStream(stream, status);
  }
}

void Relay::Lose(Stream& stream, const absl::Status& why, Loss loss) {
  const routing::WorkerView& worker = view_.worker(stream.worker);
  const bool gone = loss.has_value();
  // What a draining worker gives back costs nobody anything.
  const bool handed_over = !gone && (IsDraining(why) || worker.load.state() == v1::WORKER_STATE_DRAINING);
  LeaveWorker(stream, /*cancel=*/true);
  if (stream.cancelled) return EndStream(stream, CancelledError());
  const bool had_tokens = stream.generation.has_tokens();
  if (absl::Status status = MayGoOn(stream, why, loss, handed_over); !status.ok()) {
    metrics_.FailedOver(had_tokens, false);
    return EndStream(stream, std::move(status));
  }
  if (!had_tokens) metrics_.Retried(gone ? "worker_lost" : handed_over ? "draining" : "unavailable");
  if (stream.spec().session().mode() == v1::SESSION_MODE_INTERACTIVE) stream.journal_domain = worker.journal_domain;
  stream.failovers += !handed_over;
  stream.avoid = gone ? -1 : stream.worker;
  stream.session.held_by = -1;
  stream.session.moved = false;
  stream.in_gap = had_tokens;
  stream.resume = stream.generation.ResumeSpec(worker.address.id);
  if (!gone && !handed_over && stream.failovers > 1) {
    stream.state = State::kWaiting;
    SetTimer(stream, &Stream::retry_timer, kRetryBackoff * absl::Uniform(random_, 0.5, 1.5), &Relay::Place);
  } else {
    Place(stream);
  }
  metrics_.FailedOver(had_tokens, stream.state != State::kEnded);
}

bool Relay::TakeRetry(const absl::Status& why) {
  if (!IsDraining(why) && !retry_budget_.Take(clock_.Monotonic())) return false;
  metrics_.Retried(IsDraining(why) ? "draining" : "unavailable");
  return true;
}

absl::Status Relay::MayGoOn(Stream& stream, const absl::Status& why, Loss loss, bool handed_over) {
  const routing::WorkerView& worker = view_.worker(stream.worker);
  if (loss == WorkerLink::Loss::kDied && !stream.answered && std::exchange(stream.suspect, true)) return SuspectError();
  if (handed_over && stream.avoid == stream.worker) return why;
  if (!handed_over && stream.failovers >= options_.max_failovers) {
    return WorkerLostError(stream.generation.outbox().end_seq());
  }
  if (stream.spec().session().mode() == v1::SESSION_MODE_INTERACTIVE && worker.journal_domain.empty()) {
    // A turn that a living worker refused has changed nothing.
    return loss.has_value() || stream.generation.started() ? SessionLostError(worker.address.id, why) : why;
  }
  if (!handed_over && !stream.generation.has_tokens() && !retry_budget_.Take(clock_.Monotonic())) return RetryBudgetError(why);
  return absl::OkStatus();
}

std::vector<Relay::Stream*> Relay::StreamsOf(int worker) {
  std::vector<Stream*> found;
  for (const auto& [id, stream] : streams_) {
    if (stream->attempt != 0 && stream->worker == worker) found.push_back(stream.get());
  }
  return found;
}

void Relay::LoseAll(int worker, const absl::Status& why, Loss loss) {
  for (Stream* stream : StreamsOf(worker)) Lose(*stream, why, loss);
}

void Relay::OnBroken(int worker) {
  const Turn turn(*this);
  view_.Detached(worker, routing::LinkState::kReconnecting);
  ShowWorker(worker);
  for (Stream* stream : StreamsOf(worker)) stream->state = State::kParked;
  // Of abandoned requests nothing more will be heard.
  for (uint64_t id : attempts_.LeftAt(worker)) EndAttempt(id);
  if (on_change_) on_change_();
}

void Relay::OnLost(int worker, WorkerLink::Loss loss, const absl::Status& status) {
  const Turn turn(*this);
  if (view_.worker(worker).link == routing::LinkState::kUp) OnBroken(worker);
  // Also reported of attempts that found nobody.
  if (view_.worker(worker).link != routing::LinkState::kDown) circuits_.Fault(worker);
  view_.Detached(worker, routing::LinkState::kDown);
  ShowWorker(worker);
  LoseAll(worker, status, loss);
  cancels_.Lose(worker);
  if (!view_.worker(worker).discovered) DropWorker(worker);
  PumpQueue();
  if (on_change_) on_change_();
}

}  // namespace berth::relay
