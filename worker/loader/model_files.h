#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/model_loader.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weight_rules.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// A model's files, opened and understood; no weight is read yet.
struct ModelFiles {
  model::DecoderSpec spec;
  std::vector<model::WeightRule> rules;
  Checkpoint checkpoint;
  text::TokenizerData tokenizer;
  GenerationDefaults generation;
  uint64_t metadata_hash = 0;  // of everything in the files but the tensors' data
};

// Errors name the file. kRandom: no checkpoint is looked for, and a directory without a tokenizer has a byte tokenizer.
absl::StatusOr<ModelFiles> OpenGgufModel(const std::string& path);
absl::StatusOr<ModelFiles> OpenHfDirectory(const std::string& path, LoadFormat format);

}  // namespace berth::loader
