#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/weight_uploader.h"
#include "worker/loader/progress.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// What generation_config.json says; absent fields keep these values.
struct GenerationDefaults {
  float temperature = 1;
  float top_p = 1;
  int top_k = 0;
  float repetition_penalty = 1;
  bool do_sample = true;  // false: greedy unless the request says otherwise
};

// A model ready to run. The weights are views into memory that this object owns: mapped files, packed buffers, or a
// device's.
struct LoadedModel {
  std::string name;  // the file's or directory's, without extension
  model::DecoderSpec spec;
  model::DecoderWeights weights;
  text::TokenizerData tokenizer;
  GenerationDefaults generation;
  uint64_t fingerprint = 0;  // of weights' metadata and sampled bytes, tokenizer, template and numerics version
  std::vector<std::shared_ptr<const void>> memory;
};

enum class LoadFormat : uint8_t {
  kCheckpoint,
  kRandom,  // no checkpoint is read; the directory needs a config.json, and has a byte tokenizer when it has no other
};

struct LoadOptions {
  LoadFormat format = LoadFormat::kCheckpoint;
  uint64_t seed = 0;                                              // kRandom
  std::function<absl::Status(const model::DecoderSpec&)> accept;  // asked before weights are read; null: takes every model
  kernels::WeightUploader* uploader = nullptr;  // where weights go. Null: host memory, in the form that LoadModel describes
  Progress progress;                            // of weights that are brought, drawn or checked: others are mapped at once
  bool image_rows = false;  // an uploader gets what only rows of images need, too; host memory always has it
};

// `path`: a GGUF file or a Hugging Face directory. Without an uploader weights stay in the checkpoint's dtype, mapped where no
// transform is needed; random ones are bf16. With one, its errors are passed on, and nothing of the files stays mapped.
// NOT_FOUND for the path; INVALID_ARGUMENT names the file, the tensor or the field, and the value, for all that is wrong
// inside; UNIMPLEMENTED names an architecture or a tensor type that is not supported.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path, const LoadOptions& options = {});

}  // namespace berth::loader
