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

inline uint64_t Combine(uint64_t hash, uint64_t value) {
  return FoldedProduct((hash ^ kMultiplierA) + 0x2545f4914f6cdd1d, (value ^ kMultiplierB) + hash);
}

inline uint64_t End(uint64_t hash) { return FoldedProduct(hash ^ kMultiplierB, kMultiplierA); }

inline uint64_t Word(const char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

uint64_t HashCombine(uint64_t hash, uint64_t value) { return Combine(hash, value); }

uint64_t Hash64(std::string_view bytes, uint64_t seed) {
  uint64_t hash = Combine(seed, bytes.size());
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) hash = Combine(hash, Word(bytes.data()));
  if (!bytes.empty()) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    hash = Combine(hash, word);
  }
  return End(hash);
}

Hash64x4::Hash64x4(size_t bytes_of_each) { hashes_.fill(Combine(0, bytes_of_each)); }

void Hash64x4::Add(const std::array<const char*, 4>& parts, size_t bytes_of_each) {
  auto [a, b, c, d] = hashes_;  // in registers
  for (size_t i = 0; i < bytes_of_each; i += 8) {
    a = Combine(a, Word(parts[0] + i));
    b = Combine(b, Word(parts[1] + i));
    c = Combine(c, Word(parts[2] + i));
    d = Combine(d, Word(parts[3] + i));
  }
  hashes_ = {a, b, c, d};
}

std::array<uint64_t, 4> Hash64x4::Finish() const {
  std::array<uint64_t, 4> out = hashes_;
  for (uint64_t& hash : out) hash = End(hash);
  return out;
}

}  // namespace berth::base
