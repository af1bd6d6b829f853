#include "worker/loader/weight_checksum.h"

#include <algorithm>
#include <array>
#include <optional>
#include <thread>

#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "base/mutex.h"
#include "base/status.h"
#include "kernels/cpu/thread_pool.h"
#include "worker/loader/mapped_file.h"

namespace berth::loader {
namespace {

using Bytes = absl::Span<const std::byte>;

constexpr size_t kAtOnce = 4;  // pieces

const char* Chars(Bytes bytes) { return reinterpret_cast<const char*>(bytes.data()); }

// At most kAtOnce pieces.
void HashPieces(absl::Span<const Bytes> pieces, absl::Span<std::optional<uint64_t>> hashes) {
  if (pieces.size() == kAtOnce && pieces.back().size() == kPieceBytes) {
    const std::array<uint64_t, kAtOnce> values =
        base::Hash64x4({Chars(pieces[0]), Chars(pieces[1]), Chars(pieces[2]), Chars(pieces[3])}, kPieceBytes);
    std::copy(values.begin(), values.end(), hashes.begin());
    return;
  }
  for (size_t i = 0; i < pieces.size(); ++i) hashes[i] = WeightChecksum::HashPiece(pieces[i]);
}

}  // namespace

void WeightChecksum::AddPiece(uint64_t hash) { value_ = base::HashCombine(value_, hash); }

uint64_t WeightChecksum::HashPiece(absl::Span<const std::byte> piece) { return base::Hash64({Chars(piece), piece.size()}); }

absl::Status WeightVerifier::Verify(kernels::WeightUploader* uploader, const Progress& progress) const {
  struct Group {
    size_t begin = 0, size = 0;  // pieces of one tensor
    int64_t bytes = 0;
  };
  std::vector<Bytes> pieces;
  std::vector<Group> groups;
  for (const Tensor& tensor : tensors_) {
    for (size_t at = 0; at < tensor.data.size(); at += kPieceBytes) {
      if (at % (kAtOnce * kPieceBytes) == 0) groups.push_back({pieces.size()});
      pieces.push_back(tensor.data.subspan(at, kPieceBytes));
      ++groups.back().size;
      groups.back().bytes += static_cast<int64_t>(pieces.back().size());
    }
  }
  std::vector<std::optional<uint64_t>> hashes(pieces.size());
  if (uploader != nullptr) {
    BERTH_ASSIGN_OR_RETURN(hashes, uploader->HashCopies(pieces));
  }
  groups.erase(std::remove_if(groups.begin(), groups.end(),
                              [&](const Group& group) {
                                const auto first = hashes.begin() + group.begin;
                                return std::find(first, first + group.size, std::nullopt) == first + group.size;
                              }),
               groups.end());
  if (!groups.empty()) {
    int64_t total = 0;
    for (const Group& group : groups) total += group.bytes;
    ProgressMeter meter(progress, total);
    base::Mutex mutex;
    const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    kernels::cpu::ThreadPool(threads).Run(static_cast<int>(groups.size()), [&](int task, int) {
      const Group& group = groups[task];
      HashPieces(absl::MakeSpan(pieces).subspan(group.begin, group.size),
                 absl::MakeSpan(hashes).subspan(group.begin, group.size));
      const base::MutexLock lock(mutex);
      meter.Add(group.bytes);
    });
  }
  auto hash = hashes.begin();
  for (const Tensor& tensor : tensors_) {
    WeightChecksum checksum;
    for (size_t at = 0; at < tensor.data.size(); at += kPieceBytes) checksum.AddPiece(**hash++);
    if (checksum.value() == tensor.checksum) continue;
    return InFile(file_, absl::DataLossError(
                             absl::StrFormat("tensor %s has checksum %016x, want %016x: the file is damaged, convert again",
                                             tensor.name, checksum.value(), tensor.checksum)));
  }
  return absl::OkStatus();
}

}  // namespace berth::loader
