#include "worker/loader/weight_checksum.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "kernels/cpu/thread_pool.h"
#include "worker/loader/mapped_file.h"

namespace berth::loader {
namespace {

constexpr size_t kAtOnce = 4;                    // pieces
constexpr size_t kPartBytes = size_t{64} << 10;  // of each; all of them stay in a core's cache

const char* Chars(absl::Span<const std::byte> bytes) { return reinterpret_cast<const char*>(bytes.data()); }

}  // namespace

void WeightChecksum::AddPiece(uint64_t hash) { value_ = base::HashCombine(value_, hash); }

uint64_t WeightChecksum::HashPiece(absl::Span<const std::byte> piece) { return base::Hash64({Chars(piece), piece.size()}); }

WeightVerifier::WeightVerifier(std::string file, std::vector<Tensor> tensors) : file_(std::move(file)) {
  for (Tensor& tensor : tensors) {
    const size_t pieces = (tensor.data.size() + kPieceBytes - 1) / kPieceBytes;
    tensors_.push_back({std::move(tensor), std::vector<uint64_t>(pieces), std::vector<uint8_t>(pieces)});
  }
}

void WeightVerifier::Hash(Pieces& pieces, size_t piece, size_t end, Reading reading) {
  const absl::Span<const std::byte> data = pieces.tensor.data;
  const auto part = [&](size_t index, size_t at, size_t size) {
    const absl::Span<const std::byte> bytes = data.subspan(index * kPieceBytes + at, size);
    reading(bytes);
    return bytes;
  };
  std::fill(pieces.done.begin() + piece, pieces.done.begin() + end, 1);
  for (; piece + kAtOnce <= end && (piece + kAtOnce) * kPieceBytes <= data.size(); piece += kAtOnce) {
    base::Hash64x4 hash(kPieceBytes);
    for (size_t at = 0; at < kPieceBytes; at += kPartBytes) {
      std::array<const char*, kAtOnce> parts;
      for (size_t i = 0; i < kAtOnce; ++i) parts[i] = Chars(part(piece + i, at, kPartBytes));
      hash.Add(parts, kPartBytes);
    }
    const std::array<uint64_t, kAtOnce> hashes = hash.Finish();
    std::copy(hashes.begin(), hashes.end(), &pieces.hashes[piece]);
  }
  for (; piece < end; ++piece) pieces.hashes[piece] = WeightChecksum::HashPiece(part(piece, 0, kPieceBytes));
}

void WeightVerifier::Copy(std::byte* to, const std::byte* from, size_t bytes) {
  const auto holder = std::find_if(tensors_.begin(), tensors_.end(), [&](const Pieces& pieces) {
    const absl::Span<const std::byte> data = pieces.tensor.data;
    return data.data() <= from && from + bytes <= data.data() + data.size();
  });
  if (holder == tensors_.end()) {
    std::memcpy(to, from, bytes);
    return;
  }
  // Of what is hashed only a first piece can begin before `from`.
  const auto copy = [&](absl::Span<const std::byte> part) {
    const size_t before = from > part.data() ? std::min<size_t>(from - part.data(), part.size()) : 0;
    part.remove_prefix(before);
    if (!part.empty()) std::memcpy(to + (part.data() - from), part.data(), part.size());
  };
  const absl::Span<const std::byte> data = holder->tensor.data;
  const size_t begin = from - data.data(), end = begin + bytes;
  const size_t end_piece = end == data.size() ? holder->hashes.size() : end / kPieceBytes;
  Hash(*holder, begin / kPieceBytes, end_piece, copy);
  const size_t rest = std::clamp(end_piece * kPieceBytes, begin, end);
  copy(data.subspan(rest, end - rest));
}

absl::Status WeightVerifier::Verify() {
  std::vector<std::pair<Pieces*, size_t>> open;  // the first of some pieces
  for (Pieces& pieces : tensors_) {
    for (size_t i = 0; i < pieces.done.size(); i += kAtOnce) {
      const auto begin = pieces.done.begin() + i, end = begin + std::min(kAtOnce, pieces.done.size() - i);
      if (std::find(begin, end, 0) != end) open.push_back({&pieces, i});
    }
  }
  if (!open.empty()) {
    const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    kernels::cpu::ThreadPool(threads).Run(static_cast<int>(open.size()), [&](int task, int) {
      const auto& [pieces, first] = open[task];
      Hash(*pieces, first, std::min(first + kAtOnce, pieces->done.size()), [](absl::Span<const std::byte>) {});
    });
  }
  for (const Pieces& pieces : tensors_) {
    WeightChecksum checksum;
    for (const uint64_t hash : pieces.hashes) checksum.AddPiece(hash);
    const Tensor& tensor = pieces.tensor;
    if (checksum.value() == tensor.checksum) continue;
    return InFile(file_, absl::DataLossError(
                             absl::StrFormat("tensor %s has checksum %016x, want %016x: the file is damaged, convert again",
                                             tensor.name, checksum.value(), tensor.checksum)));
  }
  return absl::OkStatus();
}

}  // namespace berth::loader
