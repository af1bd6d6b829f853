#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/dtype.h"
#include "worker/loader/checkpoint.h"
#include "worker/loader/load_plan.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weight_rules.h"

namespace berth::loader {

// A workspace is a converted model: a Hugging Face directory (configuration, tokenizer, template) whose weights lie in
// canonical form, one file per rank, ready to be mapped: fused slots, row-major, every tensor at a multiple of 4 KiB. Its
// manifest is written last, so a directory without one is no workspace.

inline constexpr std::string_view kWorkspaceManifest = "workspace.json";
inline constexpr std::string_view kWorkspaceProgress = "conversion.progress";  // is there while a conversion is not done
inline constexpr int kWorkspaceVersion = 2;
inline constexpr uint64_t kWorkspaceAlignment = 4096;

struct WorkspaceTensor {
  std::string name;  // WorkspaceTensorName
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;  // of one rank
  uint64_t offset = 0;         // in every rank's file
  uint64_t bytes = 0;
  std::vector<uint64_t> checksums;  // WeightChecksum of each rank's bytes
};

struct WorkspaceManifest {
  std::string model;  // the name to serve it under
  int ranks = 1;
  std::vector<WorkspaceTensor> tensors;
};

std::string FormatWorkspaceManifest(const WorkspaceManifest& manifest);
// INVALID_ARGUMENT names the field; UNIMPLEMENTED another layout version.
absl::StatusOr<WorkspaceManifest> ParseWorkspaceManifest(std::string_view json);

// "weights-0-of-1.bin"
std::string WorkspaceWeightsFile(const Shard& shard);

// "layers.3.qkv", or "layers.3.qkv.2" for one part of a slot whose parts are not of one type.
std::string WorkspaceTensorName(model::Slot slot, int layer, int part);
std::vector<model::WeightRule> WorkspaceRules(const model::DecoderSpec& spec);

// Maps a rank's weights, with a verifier. Errors name the file and the tensor.
absl::StatusOr<Checkpoint> OpenWorkspaceWeights(const std::string& directory, const WorkspaceManifest& manifest,
                                                const Shard& shard);

}  // namespace berth::loader
