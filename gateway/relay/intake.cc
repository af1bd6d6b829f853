#include "gateway/relay/intake.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// What a shed caller is told to wait at least and at most.
constexpr absl::Duration kMinRetryDelay = absl::Seconds(1);
constexpr absl::Duration kMaxRetryDelay = absl::Seconds(60);

// Until its usage is known.
int64_t PromptTokens(const v1::Prompt& prompt) {
  if (prompt.has_token_ids()) return prompt.token_ids().ids_size();
  return static_cast<int64_t>(prompt.ByteSizeLong()) / 4;
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> Intake::Charge(const GenerationRequest& request, int gateways, absl::Duration now) {
  if (request.limits == nullptr) return std::nullopt;
  if (request.spec.priority() > request.limits->max_priority) {
    return rpc::FieldError("priority", absl::StrCat("is ", request.spec.priority(), ", tenant ", request.tenant,
                                                    " may ask for ", request.limits->max_priority, " at most"));
  }
  const int64_t tokens = PromptTokens(request.spec.prompt());
  BERTH_RETURN_IF_ERROR(Take(*request.limits, tokens, request.further, gateways, now));
  return tokens;
}

absl::StatusOr<int64_t> Intake::Charge(const rpc::Tenant& tenant, const google::protobuf::RepeatedPtrField<v1::Prompt>& inputs,
                                       bool further, int gateways, absl::Duration now) {
  int64_t tokens = 0;
  for (const v1::Prompt& input : inputs) tokens += PromptTokens(input);
  BERTH_RETURN_IF_ERROR(Take(tenant, tokens, further, gateways, now));
  return tokens;
}

absl::Status Intake::Take(const rpc::Tenant& tenant, int64_t tokens, bool further, int gateways, absl::Duration now) {
  absl::Status status = rate_limiter_.Take(tenant, tokens, further, gateways, now);
  if (!status.ok()) metrics_.RateLimited(tenant.name);
  return status;
}

void Intake::Settle(const GenerationStream& stream, int64_t charged) {
  const bool cut_off = !stream.finished() && stream.started();
  const int64_t used = cut_off ? charged + stream.output_tokens() : stream.used_tokens();
  rate_limiter_.Correct(*stream.request().limits, used - charged);
}

absl::Status Intake::CheckInTime(const GenerationRequest& request, absl::Duration wait, absl::Duration now) const {
  if (request.deadline == absl::InfiniteDuration()) return absl::OkStatus();
  const absl::Duration run = wait_estimate_.Run(request.spec.priority(), request.spec.stop().max_tokens());
  if (wait + run <= request.deadline - now) return absl::OkStatus();
  return rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                                                  "the request would not end before its deadline: the workers are busy"),
                             std::clamp(wait, kMinRetryDelay, kMaxRetryDelay));
}

}  // namespace berth::relay
