#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/service/served_model.h"

namespace berth::service {

// The text side of the simulated engine: text::SimVocabulary and a small chat template.
absl::StatusOr<ServedModel> MakeSimModel(const std::string& name, int context_length);

}  // namespace berth::service
