// GenerationCore's handling of what the engine's steps did.

#include "absl/strings/strip.h"
#include "proto/rpc/status.h"
#include "worker/service/generation_core.h"

namespace berth::service {
namespace {

v1::FinishReason ReasonOf(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStopToken:
      return v1::FINISH_REASON_STOP_TOKEN;
    case engine::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    default:
      return v1::FINISH_REASON_UNSPECIFIED;
  }
}

}  // namespace

absl::Status EngineError(const std::string& error) {
  absl::string_view text = error;
  if (absl::ConsumePrefix(&text, "UNAVAILABLE: ")) {
    return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", text);
  }
  return absl::InternalError(text);
}

void GenerationCore::OnSteps(std::vector<engine::StepOutput> steps) {
  in_batch_ = true;
  for (const engine::StepOutput& step : steps) {
    const absl::Duration now = parts_.clock.Monotonic();
    if (step.tokens > 0) parts_.metrics.RecordStep(step.tokens, parts_.clock.Now());
    for (const engine::SequenceUpdate& update : step.updates) Apply(update, now);
  }
  in_batch_ = false;
  if (on_batch_end_) on_batch_end_(steps.back().step, steps.back().step_time);
  StartPrepared();
}

void GenerationCore::Apply(const engine::SequenceUpdate& update, absl::Duration now) {
  const auto found = sequences_.find(update.id);
  if (found == sequences_.end()) return;  // ended here before the engine heard of it
  const auto [owner, index] = found->second;
  Request& request = *owner;
  Choice& choice = request.choices[index];
  Record(request, update, now);
  request.prompt_scores.Append(update.details().prompt_logprobs);
  const bool ends = update.finish != engine::FinishReason::kNone;
  if (ends) {
    sequences_.erase(found);
    choice.sequence = 0;
  }
  const bool stop_token = update.finish == engine::FinishReason::kStopToken;
  if (choice.output->Append(update.tokens, update.details().logprobs, stop_token)) {
    if (!ends) {
      parts_.engine.Finish(update.id, choice.output->size());
      sequences_.erase(update.id);
      choice.sequence = 0;
    }
    return FinishChoice(request, choice, v1::FINISH_REASON_STOP_STRING);
  }
  switch (update.finish) {
    case engine::FinishReason::kNone:
      return NotifySink(request);
    case engine::FinishReason::kStopToken:
    case engine::FinishReason::kLength:
      choice.output->Finish();
      return FinishChoice(request, choice, ReasonOf(update.finish));
    case engine::FinishReason::kDeadline:
      return EndUnfinished(request, v1::FINISH_REASON_DEADLINE);
    case engine::FinishReason::kError:
      return FailWork(request, EngineError(update.details().error));
    case engine::FinishReason::kCancelled:
    case engine::FinishReason::kFinished:
      // Not asked for here, so the engine is stopping.
      return Fail(request, rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", "the worker is stopping"));
  }
}

// Times and counts of an update, before it changes the request.
void GenerationCore::Record(Request& request, const engine::SequenceUpdate& update, absl::Duration now) {
  if (update.started && !request.started_ready) {
    request.started_ready = true;
    request.started_at = now;
    request.cached_tokens = update.cached_tokens;
    request.started.set_cached_tokens(update.cached_tokens);
  }
  if (update.tokens.empty()) return;
  if (request.first_token_at == absl::InfiniteDuration()) {
    request.first_token_at = now;
    if (!request.claiming) parts_.metrics.RecordFirstToken(now - request.arrived);
  } else if (request.choices.size() == 1) {
    parts_.metrics.RecordInterToken((now - request.last_token_at) / static_cast<int64_t>(update.tokens.size()));
  }
  request.last_token_at = now;
}

void GenerationCore::FinishChoice(Request& request, Choice& choice, v1::FinishReason reason) {
  choice.reason = reason;
  for (const Choice& other : request.choices) {
    if (!other.finished()) return NotifySink(request);
  }
  EndWork(request);
}

void GenerationCore::NotifySink(Request& request) {
  if (request.sink != nullptr && request.has_events()) request.sink->OnEvents(request);
}

}  // namespace berth::service
