#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "worker/loader/checkpoint.h"
#include "worker/model/decoder_spec.h"

namespace berth::cli {

struct InspectOptions {
  std::string model;                    // a path
  std::optional<kernels::DType> dtype;  // of weights and KV on a GPU; nothing: what suits the model
  int ranks = 1;
  int64_t memory = 0;  // bytes of each rank; 0: not asked
};

struct ModelReport {
  struct WeightBytes {
    std::string dtype;
    std::vector<int64_t> per_rank;  // as kRankCounts; -1: so many ranks cannot share this model
  };

  std::string name;
  model::DecoderSpec spec;
  loader::CheckpointIndex tensors;  // without data; empty when there is only a config.json
  int64_t parameters = 0;
  int64_t stored_bytes = 0;
  std::vector<WeightBytes> weights;
  kernels::DType dtype = kernels::DType::kBF16;  // of weights and KV on a GPU
  int ranks = 1;
  int64_t kv_bytes_per_token = 0;  // of one rank
  int64_t memory = 0;
  int64_t largest_context = 0;  // tokens that fit in `memory` beside the weights, without activations; at most the model's own
};

inline constexpr int kRankCounts[] = {1, 2, 4, 8};

// Reads no weight. Errors are LoadModel's, and RESOURCE_EXHAUSTED when the weights alone do not fit in `memory`.
absl::StatusOr<ModelReport> Inspect(const InspectOptions& options);

std::string ReportJson(const ModelReport& report);
std::string ReportText(const ModelReport& report);

// What Berth runs: families, their architectures, and file formats.
std::string ListJson();
std::string ListText();

}  // namespace berth::cli
