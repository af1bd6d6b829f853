#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/weight_uploader.h"
#include "worker/loader/progress.h"

namespace berth::loader {

// A checksum of any number of bytes: of pieces of kPieceBytes, folded in order, so that threads can share the work.
inline constexpr size_t kPieceBytes = size_t{512} << 10;
class WeightChecksum {
 public:
  // Every piece but the last has kPieceBytes.
  void AddPiece(uint64_t hash);
  uint64_t value() const { return value_; }

  static uint64_t HashPiece(absl::Span<const std::byte> piece);

 private:
  uint64_t value_ = 0;
};

// Compares the checksums of a file's tensors.
class WeightVerifier {
 public:
  struct Tensor {
    std::string name;
    absl::Span<const std::byte> data;
    uint64_t checksum = 0;  // that it should have
  };

  // `file` begins errors. The tensors' data must stay.
  WeightVerifier(std::string file, std::vector<Tensor> tensors) : file_(std::move(file)), tensors_(std::move(tensors)) {}

  // Asks the uploader, which may be null and is done, for hashes of its copies; reads the rest on all cores. `progress` hears
  // of the bytes that are read, from one thread at a time. DATA_LOSS names the file, the tensor and both checksums.
  absl::Status Verify(kernels::WeightUploader* uploader = nullptr, const Progress& progress = nullptr) const;

 private:
  const std::string file_;
  const std::vector<Tensor> tensors_;
};

}  // namespace berth::loader
