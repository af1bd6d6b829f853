#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"
#include "tests/support/safetensors_writer.h"
#include "worker/loader/gguf_metadata.h"

namespace berth::testing {

// Writes GGUF version 3. Integers go out as int64 (as uint32 where they fit), floats as float32.
class GgufWriter {
 public:
  void Set(std::string_view key, const loader::GgufMetadata::Value& value);
  void Add(StoredTensor tensor) { tensors_.push_back(std::move(tensor)); }
  std::string File() const;
  // The same in `count` files, each with a share of the tensors; the first has the metadata.
  std::vector<std::string> Split(int count) const;

 private:
  uint64_t metadata_count_ = 0;
  std::string metadata_;
  std::vector<StoredTensor> tensors_;
};

// A matrix of that type whose bytes are a function of `name`, with scales that keep every value within [-4, 4]. What it holds
// in floats is what kernels::DequantizeRow says.
StoredTensor RandomMatrix(std::string name, kernels::DType dtype, int64_t rows, int64_t columns);

}  // namespace berth::testing
