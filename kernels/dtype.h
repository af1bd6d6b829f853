#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace berth::kernels {

// Element types. The kQ… and kIQ… types are GGUF's block formats: values of one row come in blocks that share scales, so that
// an element has no address of its own and only whole rows are addressable.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kI32,
  kU32,
  kU8,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ8_0,
  kQ4_K,
  kQ6_K,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kQ5_K,
  kIQ4_NL,
};

struct DTypeInfo {
  std::string_view name;
  int block_elements;  // 1 for plain types
  int block_bytes;
};

const DTypeInfo& Info(DType dtype);
// The type of that name; nothing when there is none.
std::optional<DType> FindDType(std::string_view name);
inline bool IsQuantized(DType dtype) { return Info(dtype).block_elements > 1; }
// Bytes of a row of `elements` values. `elements` must be a multiple of the block size.
size_t RowBytes(DType dtype, int64_t elements);

}  // namespace berth::kernels
