#include "kernels/dtype.h"

#include <array>

#include "base/check.h"

namespace berth::kernels {
namespace {

// In the order of DType. Block sizes: GGUF specification, ggml-common.h.
constexpr std::array<DTypeInfo, 17> kInfo = {{
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
    {"q5_1", 32, 24},
    {"q2_k", 256, 84},
    {"q3_k", 256, 110},
    {"q5_k", 256, 176},
    {"iq4_nl", 32, 18},
}};

}  // namespace

const DTypeInfo& Info(DType dtype) { return kInfo[static_cast<size_t>(dtype)]; }

std::optional<DType> FindDType(std::string_view name) {
  for (size_t i = 0; i < kInfo.size(); ++i) {
    if (kInfo[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

size_t RowBytes(DType dtype, int64_t elements) {
  const DTypeInfo& info = Info(dtype);
  BERTH_CHECK(elements >= 0 && elements % info.block_elements == 0) << info.name << " row of " << elements;
  return static_cast<size_t>(elements / info.block_elements) * info.block_bytes;
}

}  // namespace berth::kernels
