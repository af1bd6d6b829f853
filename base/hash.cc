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

Hash64x4::Hash64x4(size_t bytes_of_each) { hashes_.fill(HashCombine(0, bytes_of_each)); }

void Hash64x4::Add(const std::array<const char*, 4>& parts, size_t bytes_of_each) {
  auto [a, b, c, d] = hashes_;  // in registers
  for (size_t i = 0; i < bytes_of_each; i += 8) {
    a = HashCombine(a, Word(parts[0] + i));
    b = HashCombine(b, Word(parts[1] + i));
    c = HashCombine(c, Word(parts[2] + i));
    d = HashCombine(d, Word(parts[3] + i));
  }
  hashes_ = {a, b, c, d};
}

std::array<uint64_t, 4> Hash64x4::Finish() const {
  std::array<uint64_t, 4> out = hashes_;
  for (uint64_t& hash : out) hash = HashEnd(hash);
  return out;
}

}  // namespace berth::base
