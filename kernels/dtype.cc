#include "kernels/dtype.h"

#include <array>

#include "base/check.h"

namespace berth::kernels {
namespace {

// In the order of DType. Block sizes: GGUF specification, ggml-common.h.
constexpr std::array<DTypeInfo, 12> kInfo = {{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"i32", 1, 4},
    {"u32", 1, 4},
    {"u8", 1, 1},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q8_0", 32, 34},
    {"q4_k", 256, 144},
    {"q6_k", 256, 210},
}};

}  // namespace

const DTypeInfo& Info(DType dtype) { return kInfo[static_cast<size_t>(dtype)]; }

size_t RowBytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = Info(dtype);
  BERTH_CHECK(elements >= 0 && elements % info.block_elements == 0) << info.name << " row of " << elements;
  return static_cast<size_t>(elements / info.block_elements) * info.block_bytes;
}

}  // namespace berth::kernels
