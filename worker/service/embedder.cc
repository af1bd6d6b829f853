#include "worker/service/embedder.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"
#include "proto/rpc/deadline.h"
#include "proto/rpc/status.h"
#include "worker/service/generation_core.h"
#include "worker/service/prompt.h"
#include "worker/service/spec_check.h"

namespace berth::service {
namespace {

constexpr int kMaxInputs = 32;
constexpr int kMaxWaiting = 4096;  // inputs of all calls
constexpr absl::Duration kRetryEmbedAfter = absl::Milliseconds(500);

// A mean has the direction of its sum.
void FillNormalized(const std::vector<float>& sum, v1::EmbedResponse::Embedding* embedding) {
  double squares = 0;
  for (const float x : sum) squares += double{x} * x;
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  embedding->mutable_values()->Reserve(static_cast<int>(sum.size()));
  for (const float x : sum) embedding->add_values(static_cast<float>(x * scale));
}

// A prompt's error, as a caller of Embed knows the field.
absl::Status OfInputs(const absl::Status& status) {
  const auto violations = rpc::FieldViolations(status);
  if (violations.empty()) return status;
  const auto& [field, description] = violations.front();
  return rpc::FieldError(absl::StrReplaceAll(field, {{"prompt", "inputs"}}), description);
}

absl::Status ErrorOf(const engine::SequenceUpdate& update) {
  if (update.finish == engine::FinishReason::kError) return EngineError(update.details().error);
  if (update.finish == engine::FinishReason::kDeadline) {
    return absl::DeadlineExceededError("the deadline passed before the embeddings were there");
  }
  return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", "the worker is stopping");
}

}  // namespace

absl::Status Embedder::Check(const v1::EmbedRequest& request) const {
  BERTH_RETURN_IF_ERROR(CheckModelName(request.model(), parts_.model));
  if (request.inputs().empty() || request.inputs_size() > kMaxInputs) {
    return rpc::FieldError("inputs", absl::StrCat("has ", request.inputs_size(), " inputs, want 1 … ", kMaxInputs));
  }
  for (const v1::Prompt& input : request.inputs()) BERTH_RETURN_IF_ERROR(OfInputs(CheckPrompt(input, parts_.model)));
  if (inputs_ + request.inputs_size() <= kMaxWaiting) return absl::OkStatus();
  return rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                                                  absl::StrCat("the worker has ", inputs_, " inputs to embed")),
                             kRetryEmbedAfter);
}

void Embedder::Embed(std::shared_ptr<Call> call) {
  if (absl::Status status = Check(call->request()); !status.ok()) return call->Fail(status);
  const int count = call->request().inputs_size();
  const absl::Duration deadline = parts_.clock.Monotonic() + rpc::TimeLeft(call->context());
  auto batch = std::make_shared<Batch>(Batch{.call = call, .deadline = deadline, .inputs = count, .missing = count});
  inputs_ += count;
  batch->response.set_model(parts_.model.name);
  for (int i = 0; i < count; ++i) batch->response.add_embeddings();
  call->OnCancel([this, batch] { StopSequences(*batch); });
  parts_.pool.Post([this, batch] {
    absl::StatusOr<TokenLists> inputs = TokenLists();
    for (const v1::Prompt& input : batch->call->request().inputs()) {
      absl::StatusOr<std::vector<int32_t>> tokens = EncodePrompt(input, parts_.model);
      if (!tokens.ok()) {
        inputs = OfInputs(tokens.status());
        break;
      }
      inputs->push_back(*std::move(tokens));
    }
    parts_.shard.Post([this, batch, inputs = std::move(inputs)]() mutable { Start(batch, std::move(inputs)); });
  });
}

void Embedder::Start(const std::shared_ptr<Batch>& batch, absl::StatusOr<TokenLists> inputs) {
  if (batch->call->ended()) return;
  absl::Status status = inputs.status();
  int64_t prompt_tokens = 0;
  for (size_t i = 0; status.ok() && i < inputs->size(); ++i) {
    prompt_tokens += static_cast<int64_t>((*inputs)[i].size());
    status = Add(batch, std::move((*inputs)[i]));
  }
  batch->response.mutable_usage()->set_prompt_tokens(static_cast<int32_t>(prompt_tokens));
  if (!status.ok()) Fail(*batch, status);
}

absl::Status Embedder::Add(const std::shared_ptr<Batch>& batch, std::vector<int32_t> tokens) {
  const int length = static_cast<int>(tokens.size());
  const int limit = std::min(parts_.model.context_length, parts_.engine.limits().max_length);
  if (length > limit) {
    return rpc::ErrorWithReason(absl::StatusCode::kInvalidArgument, "CONTEXT_LENGTH_EXCEEDED",
                                absl::StrCat("inputs: one has ", length, " tokens, the context holds ", limit),
                                {{"max", absl::StrCat(limit)}, {"got", absl::StrCat(length)}});
  }
  engine::SequenceSpec spec{.id = next_sequence_++, .tokens = std::move(tokens), .prompt_length = length};
  spec.rope_variant = parts_.model.rope_variant(length);
  spec.pool = true;
  spec.deadline = batch->deadline;
  const engine::SequenceId id = spec.id;
  BERTH_RETURN_IF_ERROR(parts_.engine.Add(std::move(spec)));
  sequences_[id] = {batch, static_cast<int>(batch->sequences.size())};
  batch->sequences.push_back(id);
  return absl::OkStatus();
}

void Embedder::OnSteps(const std::vector<engine::StepOutput>& steps) {
  if (sequences_.empty()) return;
  for (const engine::StepOutput& step : steps) {
    for (const engine::SequenceUpdate& update : step.updates) Apply(update);
  }
}

void Embedder::Apply(const engine::SequenceUpdate& update) {
  if (update.finish == engine::FinishReason::kNone) return;
  const auto found = sequences_.find(update.id);
  if (found == sequences_.end()) return;
  const auto [batch, index] = std::move(found->second);
  sequences_.erase(found);
  if (update.details().hidden_sum.empty()) return Fail(*batch, ErrorOf(update));
  FillNormalized(update.details().hidden_sum, batch->response.mutable_embeddings(index));
  if (--batch->missing > 0) return;
  StopSequences(*batch);
  batch->call->Finish(batch->response);
}

void Embedder::Fail(Batch& batch, const absl::Status& error) {
  StopSequences(batch);
  batch.call->Fail(error);
}

// The call is about to end, or has.
void Embedder::StopSequences(Batch& batch) {
  for (const engine::SequenceId id : batch.sequences) {
    if (sequences_.erase(id) > 0) parts_.engine.Cancel(id);
  }
  batch.sequences.clear();
  inputs_ -= std::exchange(batch.inputs, 0);
}

}  // namespace berth::service
