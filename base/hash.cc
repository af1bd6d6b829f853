#include "base/hash.h"

#include <bit>
#include <cstring>

namespace berth::base {
namespace {

static_assert(std::endian::native == std::endian::little, "hash values are defined on little-endian words");

inline uint64_t Word(const char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

uint64_t Hash64(std::string_view bytes, uint64_t seed) {
  uint64_t hash = HashCombine(seed, bytes.size());
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) hash = HashCombine(hash, Word(bytes.data()));
  if (!bytes.empty()) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    hash = HashCombine(hash, word);
  }
  return HashEnd(hash);
}

std::array<uint64_t, 4> Hash64x4(const std::array<const char*, 4>& texts, size_t bytes_of_each) {
  uint64_t a = HashCombine(0, bytes_of_each), b = a, c = a, d = a;
  for (size_t i = 0; i < bytes_of_each; i += 8) {
    a = HashCombine(a, Word(texts[0] + i));
    b = HashCombine(b, Word(texts[1] + i));
    c = HashCombine(c, Word(texts[2] + i));
    d = HashCombine(d, Word(texts[3] + i));
  }
  return {HashEnd(a), HashEnd(b), HashEnd(c), HashEnd(d)};
}

}  // namespace berth::base
