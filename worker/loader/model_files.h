#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/model_loader.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weight_rules.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

struct SmallFile {
  std::string name;
  std::string bytes;
};

// The metadata of a GGUF file without its tensors, as a converted model keeps it for the tokenizer.
inline constexpr std::string_view kGgufMetadataFile = "metadata.gguf";

// A model's files, opened and understood; no weight is read yet.
struct ModelFiles {
  std::string name;  // empty: the file's or directory's
  model::DecoderSpec spec;
  std::vector<model::WeightRule> rules;
  Checkpoint checkpoint;
  text::TokenizerData tokenizer;
  GenerationDefaults generation;
  kernels::DType preferred_dtype = kernels::DType::kBF16;  // of weights, activations and KV on a GPU
  uint64_t metadata_hash = 0;                              // of everything in the files but the tensors' data
  // With these a directory that has the same weights is the same model.
  std::vector<SmallFile> small_files;
};

// Whatever LoadModel reads. Errors name the file. kRandom: no checkpoint is looked for, and a directory without a tokenizer has
// a byte tokenizer.
absl::StatusOr<ModelFiles> OpenModel(const std::string& path, LoadFormat format);
absl::StatusOr<ModelFiles> OpenGgufModel(const std::string& path);
absl::StatusOr<ModelFiles> OpenHfDirectory(const std::string& path, LoadFormat format);

// As LoadModel, of what OpenModel read from there, in the same format.
absl::StatusOr<LoadedModel> LoadModel(const std::string& path, ModelFiles files, const LoadOptions& options);

// The file's or directory's name, without GGUF's extension.
std::string ModelName(const std::string& path);

// Changes with the weights' metadata and sampled bytes, the tokenizer, the template and the numerics version.
uint64_t Fingerprint(const ModelFiles& files);

// Sets what a kGgufMetadataFile says: the tokenizer, and the dtype that suits the checkpoint's tensors.
absl::Status ReadGgufMetadata(std::string_view bytes, ModelFiles& files);

}  // namespace berth::loader
