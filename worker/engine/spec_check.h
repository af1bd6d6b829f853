#pragma once

#include "absl/status/status.h"
#include "worker/engine/executor.h"
#include "worker/engine/sequence.h"

namespace berth::engine {

// INVALID_ARGUMENT for a sequence that can never run on this executor, naming the field and the value; else cuts max_tokens and
// min_tokens to what limits.max_length leaves.
absl::Status CheckSpec(const ExecutorLimits& limits, SequenceSpec* spec);

}  // namespace berth::engine
