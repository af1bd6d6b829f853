#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace berth::testing {

// One tensor as a checkpoint file stores it.
struct StoredTensor {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> shape;  // row-major
  std::string bytes;
};

// `values` as f32, f16 or bf16 (rounded to nearest even).
StoredTensor StoreFloats(std::string name, std::vector<int64_t> shape, const std::vector<float>& values,
                         kernels::DType dtype = kernels::DType::kF32);

// A safetensors file. `padding`: spaces after the header's JSON, to place the data at odd offsets.
std::string SafetensorsFile(const std::vector<StoredTensor>& tensors, int padding = 0);

// A safetensors file with that header text and data.
std::string RawSafetensorsFile(std::string_view header, std::string_view data);

}  // namespace berth::testing
