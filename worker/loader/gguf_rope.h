#pragma once

#include "absl/status/status.h"
#include "worker/loader/checkpoint.h"
#include "worker/model/hf_config.h"

namespace berth::loader {

// GGUF has no key for llama3's rotary scaling: converters store the divisor of every frequency as the tensor rope_freqs.weight.
// Sets the fields of rope_scaling that give these divisors for the configuration's theta. UNIMPLEMENTED when no llama3 scaling
// of 8192 positions, as in Llama 3.1 to 3.3, gives them.
absl::Status TranslateRopeDivisors(const TensorInfo& divisors, model::HfConfig& config);

}  // namespace berth::loader
