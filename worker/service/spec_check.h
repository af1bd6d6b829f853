#pragma once

#include "absl/status/status.h"
#include "proto/berth/v1/generation.pb.h"
#include "worker/service/served_model.h"

namespace berth::service {

// Whether `spec` is a request that this model can run, as far as the request alone tells: INVALID_ARGUMENT with the field's
// path, NOT_FOUND for another model, UNIMPLEMENTED for what is not offered yet. Pure.
absl::Status CheckSpec(const v1::GenerationSpec& spec, const ServedModel& model);

// The part of CheckSpec that any prompt has to pass.
absl::Status CheckPrompt(const v1::Prompt& prompt, const ServedModel& model);

// Names the first of `ids` that the model's vocabulary has not.
absl::Status CheckTokens(const char* field, const google::protobuf::RepeatedField<int32_t>& ids, const ServedModel& model);

// NOT_FOUND when `name` is neither empty nor the model's.
absl::Status CheckModelName(const std::string& name, const ServedModel& model);

}  // namespace berth::service
