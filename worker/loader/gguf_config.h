#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "worker/loader/gguf.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// What GGUF says about a model, in the words that Berth's families read.

// The configuration. Two things have no key and follow from the tensors, as the format means them: the head is tied when there
// is no output.weight, attention has biases when there is blk.0.attn_q.bias. UNIMPLEMENTED names an architecture that is not
// supported; INVALID_ARGUMENT a key of the architecture that is not known, missing or of a wrong value.
absl::StatusOr<model::HfConfig> TranslateGgufConfig(const GgufFile& file);

// GGUF's tensor names. The architectures llama and internlm2 store q and k rows as interleaved rotary pairs.
absl::StatusOr<std::vector<model::WeightRule>> GgufRules(const GgufMetadata& metadata, const model::DecoderSpec& spec);

}  // namespace berth::loader
