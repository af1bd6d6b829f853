#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace berth::loader {

// A checksum of any number of bytes: of pieces of kPieceBytes, folded in order, so that threads can share the work.
inline constexpr size_t kPieceBytes = size_t{4} << 20;
class WeightChecksum {
 public:
  // Every piece but the last has kPieceBytes.
  void AddPiece(uint64_t hash);
  uint64_t value() const { return value_; }

  static uint64_t HashPiece(absl::Span<const std::byte> piece);

 private:
  uint64_t value_ = 0;
};

// Compares the checksums of a file's tensors while their bytes are read once: by whoever copies them, else by Verify.
class WeightVerifier {
 public:
  struct Tensor {
    std::string name;
    absl::Span<const std::byte> data;
    uint64_t checksum = 0;  // that it should have
  };

  // `file` begins errors. Tensors share no byte; their data must stay.
  WeightVerifier(std::string file, std::vector<Tensor> tensors);

  // std::memcpy, which hashes on the way what it copies of a tensor: a piece by the copy of its last byte. Thread-safe, but no
  // byte may be copied twice.
  void Copy(std::byte* to, const std::byte* from, size_t bytes);

  // After all copies. Reads what none of them hashed, on all cores. DATA_LOSS names the file, the tensor and both checksums.
  absl::Status Verify();

 private:
  struct Pieces {
    Tensor tensor;
    std::vector<uint64_t> hashes;
    std::vector<uint8_t> done;
  };
  using Reading = absl::FunctionRef<void(absl::Span<const std::byte>)>;

  // Hashes pieces [piece, end) of a tensor; `reading` comes before each part that is read.
  static void Hash(Pieces& pieces, size_t piece, size_t end, Reading reading);

  const std::string file_;
  std::vector<Pieces> tensors_;
};

}  // namespace berth::loader
