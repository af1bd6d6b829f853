#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace berth::loader {

struct ConvertOptions {
  std::string destination;  // must not be there yet
  int ranks = 1;
  std::optional<kernels::DType> dtype;        // of matrices, f32, f16 or bf16; nothing: as the checkpoint has them
  uint64_t sync_bytes = uint64_t{256} << 20;  // written to the disk at least this often: all that a killed conversion loses
  // Called after every few MiB, with bytes of all ranks.
  std::function<void(uint64_t done, uint64_t total)> progress = [](uint64_t, uint64_t) {};
};

struct Conversion {
  uint64_t bytes = 0;   // of weights
  uint64_t reused = 0;  // of them, written by an earlier conversion that did not end
};

// Writes the workspace of the model at `path` (as for LoadModel). Works in `destination`.partial, which becomes `destination`
// when all is on the disk; what an interrupted conversion of the same model and options left there is gone on with. Anonymous
// memory: the largest slot and a few MiB. ALREADY_EXISTS names the destination; RESOURCE_EXHAUSTED, before anything is written,
// how many bytes the disk lacks; FAILED_PRECONDITION another conversion that is at work there.
absl::StatusOr<Conversion> ConvertModel(const std::string& path, const ConvertOptions& options);

}  // namespace berth::loader
