#include "clients/cpp/progress.h"

#include <algorithm>
#include <utility>

#include "absl/random/distributions.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/rpc/status.h"

namespace berth::client {
namespace {

// The stream or the connection broke, or the gateway cannot go on: another one may. gRPC calls a stream that was cut UNKNOWN.
bool IsBroken(const absl::Status& status) {
  return absl::IsUnavailable(status) || (absl::IsUnknown(status) && rpc::Reason(status).empty());
}

}  // namespace

Progress::Progress(v1::GenerationSpec generation, const RetryOptions& options, absl::BitGenRef random, absl::Time now)
    : options_(options), wants_ids_(generation.output().token_ids()) {
  seen_ = generation.resume();
  spec() = std::move(generation);
  if (spec().request_id().empty()) {
    spec().set_request_id(absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random), absl::Uniform<uint64_t>(random)));
  }
  if (!spec().sampling().has_seed()) spec().mutable_sampling()->set_seed(absl::Uniform<uint64_t>(random));
  if (!spec().has_template_clock()) spec().mutable_template_clock()->set_seconds(absl::ToUnixSeconds(now));
  // A stream goes on from its tokens.
  spec().mutable_output()->set_token_ids(true);
}

absl::Status Progress::Take(v1::StreamGenerateResponse& message) {
  if (message.seq() != seen_.next_seq()) {
    return absl::DataLossError(
        absl::StrCat("message ", message.seq(), " of request ", request_id(), " came, want message ", seen_.next_seq()));
  }
  seen_.set_next_seq(message.seq() + 1);
  failures_ = 0;
  if (message.has_started()) seen_.set_model_fingerprint(message.started().model_fingerprint());
  if (message.has_finished()) finished_ = true;
  return message.has_delta() ? TakeTokens(*message.mutable_delta()) : absl::OkStatus();
}

absl::Status Progress::TakeTokens(v1::Delta& delta) {
  seen_.set_prompt_logprobs(seen_.prompt_logprobs() + delta.prompt_logprobs_size());
  if (delta.token_ids().empty()) return absl::OkStatus();
  const int index = delta.choice_index();
  while (seen_.choices_size() <= index) seen_.add_choices()->set_index(seen_.choices_size() - 1);
  v1::ResumeFrom::Choice& choice = *seen_.mutable_choices(index);
  if (delta.first_token_index() != choice.token_ids_size()) {
    return absl::DataLossError(absl::StrCat("token ", delta.first_token_index(), " of choice ", index, " of request ",
                                            request_id(), " came, want token ", choice.token_ids_size()));
  }
  choice.mutable_token_ids()->MergeFrom(delta.token_ids());
  if (!wants_ids_) delta.clear_token_ids();
  return absl::OkStatus();
}

std::optional<absl::Duration> Progress::Retry(const absl::Status& status, int gateways, absl::BitGenRef random) {
  const std::optional<absl::Duration> told = rpc::RetryAfter(status);
  const bool broken = IsBroken(status);
  const bool refused = absl::IsResourceExhausted(status) && told.has_value() && seen_.next_seq() == 0;
  if (++failures_ >= options_.attempts || !(broken || refused)) return std::nullopt;
  // It may still run: then this takes it over.
  if (broken) *spec().mutable_resume() = seen_;
  const double jitter = absl::Uniform(random, 0.5, 1.5);
  if (told.has_value()) return *told * (0.5 + jitter);
  if (failures_ < gateways) return absl::ZeroDuration();
  return std::min(options_.first_backoff * (1 << std::min(failures_ - gateways, 16)), options_.max_backoff) * jitter;
}

}  // namespace berth::client
