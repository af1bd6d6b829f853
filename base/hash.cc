#include "base/hash.h"

#include <bit>
#include <cstring>

namespace berth::base {
namespace {

static_assert(std::endian::native == std::endian::little, "hash values are defined on little-endian words");

constexpr uint64_t kMultiplierA = 0x9e3779b97f4a7c15;
constexpr uint64_t kMultiplierB = 0xd6e8feb86659fd93;

// Both halves of a 64 × 64 bit product folded together.
uint64_t FoldedProduct(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace

uint64_t HashCombine(uint64_t hash, uint64_t value) {
  return FoldedProduct((hash ^ kMultiplierA) + 0x2545f4914f6cdd1d, (value ^ kMultiplierB) + hash);
}

uint64_t Hash64(std::string_view bytes, uint64_t seed) {
  uint64_t hash = HashCombine(seed, bytes.size());
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t count = bytes.size() < 8 ? bytes.size() : 8;
    std::memcpy(&word, bytes.data(), count);
    hash = HashCombine(hash, word);
    bytes.remove_prefix(count);
  }
  return FoldedProduct(hash ^ kMultiplierB, kMultiplierA);
}

}  // namespace berth::base
