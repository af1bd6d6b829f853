#include "kernels/tuned_products.h"

#include "absl/strings/str_format.h"
#include "base/hash.h"

namespace berth::kernels {

std::array<uint64_t, 8> TunedProduct::Algorithm() const {
  return {
      tile, 0x100000023, 0, split, 0x1fc3400000001, 0xe0000000e, uint64_t{0x4400000000} + (out == DType::kF32 ? 0 : 0xe000e),
      0};
}

uint64_t TunedProductsDigest() {
  uint64_t digest = kTunedLibraryVersion;
  for (const TunedProduct& product : TunedProducts()) {
    for (const int64_t value : {static_cast<int64_t>(product.out), product.n, product.k, product.tokens}) {
      digest = base::HashCombine(digest, static_cast<uint64_t>(value));
    }
    for (const uint64_t word : product.Algorithm()) digest = base::HashCombine(digest, word);
  }
  return digest;
}

std::string FormatTunedProducts(absl::Span<const TunedProduct> products) {
  std::string text = R"(// Made by `berth bench tune`.
#include "kernels/tuned_products.h"

namespace berth::kernels {
namespace {

using enum DType;

// clang-format off
constexpr TunedProduct kTuned[] = {
)";
  for (const TunedProduct& product : products) {
    absl::StrAppendFormat(&text, "    {%s, %d, %d, %d, 0x%x, 0x%x},\n", product.out == DType::kF32 ? "kF32" : "kBF16",
                          product.n, product.k, product.tokens, product.tile, product.split);
  }
  text += R"(};
// clang-format on

}  // namespace

absl::Span<const TunedProduct> TunedProducts() { return kTuned; }

}  // namespace berth::kernels
)";
  return text;
}

}  // namespace berth::kernels
