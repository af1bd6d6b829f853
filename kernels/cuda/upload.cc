#include "kernels/cuda/upload.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "kernels/cuda/convert.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/hash_runs.h"
#include "kernels/cuda/piece_queue.h"
#include "kernels/weight_memory.h"

namespace berth::kernels {
namespace {

using cuda::Piece;
using cuda::PieceQueue;

absl::Status Fault(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("device fault in uploading weights, ", std::string(what), ": ", cudaGetErrorString(error)));
}

absl::Status Read(const HostFile& file, size_t offset, std::byte* out, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = pread(file.fd, out, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", file.path));
    if (got == 0) return absl::DataLossError(absl::StrCat(file.path, " ends at byte ", offset, " by now"));
    offset += got;
    out += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

// One thread's way to the device: while one of its two chunks is fetched and converted, it fills the other.
class Lane {
 public:
  Lane(const CudaWeightUploaderOptions& options, PieceQueue& queue)
      : options_(options), queue_(queue), thread_([this] { Run(); }) {}
  void Join() { thread_.join(); }

 private:
  struct Chunk {
    Buffer pinned;
    Buffer staging;  // on the device, once something has to be converted
    cudaEvent_t done = nullptr;
  };

  void Run() {
    absl::Status status = SetUp();
    Piece piece;
    for (size_t i = 0; status.ok() && queue_.Pop(&piece); ++i) status = Move(piece, chunks_[i % chunks_.size()]);
    if (status.ok()) status = Fault(cudaStreamSynchronize(stream_), "waiting");
    if (!status.ok()) queue_.Fail(status);
    TearDown();
  }

  absl::Status SetUp() {
    BERTH_RETURN_IF_ERROR(Fault(cudaSetDevice(options_.device), "selecting the device"));
    BERTH_RETURN_IF_ERROR(Fault(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
    for (Chunk& chunk : chunks_) {
      BERTH_ASSIGN_OR_RETURN(chunk.pinned, MakePinnedAllocator(options_.device)->Allocate(options_.chunk_bytes));
      BERTH_RETURN_IF_ERROR(Fault(cudaEventCreateWithFlags(&chunk.done, cudaEventDisableTiming), "making an event"));
    }
    return absl::OkStatus();
  }

  absl::Status Move(const Piece& piece, Chunk& chunk) {
    const size_t bytes = RowBytes(piece.from, piece.elements);
    const bool convert = piece.from != piece.to;
    BERTH_RETURN_IF_ERROR(Fault(cudaEventSynchronize(chunk.done), "waiting"));
    auto* const pinned = static_cast<std::byte*>(chunk.pinned.data());
    if (piece.file != nullptr) {
      BERTH_RETURN_IF_ERROR(Read(*piece.file, piece.source - piece.file->mapped.data(), pinned, bytes));
    } else {
      std::memcpy(pinned, piece.source, bytes);
    }
    if (convert && chunk.staging.data() == nullptr) {
      BERTH_ASSIGN_OR_RETURN(chunk.staging, MakeCudaAllocator(options_.device)->Allocate(options_.chunk_bytes));
    }
    auto* const staging = static_cast<std::byte*>(chunk.staging.data());
    std::byte* const target = convert ? staging : piece.out;
    BERTH_RETURN_IF_ERROR(Fault(cudaMemcpyAsync(target, pinned, bytes, cudaMemcpyHostToDevice, stream_), "a copy"));
    if (convert) cuda::ConvertWeights(piece.from, staging, piece.elements, piece.to, piece.out, stream_);
    BERTH_RETURN_IF_ERROR(Fault(cudaGetLastError(), "a launch"));
    return Fault(cudaEventRecord(chunk.done, stream_), "an event");
  }

  void TearDown() {
    if (stream_ != nullptr) cudaStreamSynchronize(stream_);
    for (Chunk& chunk : chunks_) {
      if (chunk.done != nullptr) cudaEventDestroy(chunk.done);
      chunk = {};
    }
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  const CudaWeightUploaderOptions options_;
  PieceQueue& queue_;
  cudaStream_t stream_ = nullptr;
  std::array<Chunk, 2> chunks_;
  std::thread thread_;
};

class CudaWeightUploader final : public WeightUploader {
 public:
  explicit CudaWeightUploader(const CudaWeightUploaderOptions& options) : options_(options) {}
  ~CudaWeightUploader() override { JoinLanes(); }

  absl::Status Init() {
    BERTH_CHECK(options_.dtype == DType::kBF16 || options_.dtype == DType::kF16) << Info(options_.dtype).name;
    if (const cudaError_t error = cudaSetDevice(options_.device); error != cudaSuccess) {
      return absl::FailedPreconditionError(
          absl::StrCat("device ", options_.device, " cannot be used: ", cudaGetErrorString(error)));
    }
    return absl::OkStatus();
  }

  absl::Status Reserve(const WeightSizes& sizes) override {
    const size_t bytes = sizes.Bytes(options_.dtype);
    size_t free = 0, total = 0;
    BERTH_RETURN_IF_ERROR(Fault(cudaMemGetInfo(&free, &total), "asking for free memory"));
    if (bytes > free) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("the weights take %d MiB of device %d, of which %d of %d MiB are free: %d MiB are missing",
                          Mebibytes(bytes), options_.device, free >> 20, total >> 20, Mebibytes(bytes - free)));
    }
    BERTH_ASSIGN_OR_RETURN(Buffer buffer, MakeCudaAllocator(options_.device)->Allocate(bytes));
    memory_.Hold(std::move(buffer));
    // The allocator's zeros must not arrive after the first weights: the lanes' streams do not wait for the default one.
    return Fault(cudaStreamSynchronize(nullptr), "waiting");
  }

  void ReadFrom(HostFile file) override { files_.push_back(std::move(file)); }

  absl::StatusOr<LinearWeight> Matrix(const LinearWeight& host) override {
    const LinearWeight weight = memory_.TakeMatrix(options_.dtype, host.n(), host.k);
    std::byte* out = Data(weight);
    for (const LinearWeight::Segment& segment : host.segments) {
      const int64_t elements = segment.rows * host.k;
      Push({segment.dtype, segment.data, elements, options_.dtype, out});
      out += RowBytes(options_.dtype, elements);
    }
    return weight;
  }

  absl::StatusOr<Tensor> Vector(const Tensor& host) override {
    std::byte* const out = memory_.Take(RowBytes(DType::kF32, host.elements()));
    Push({DType::kF32, static_cast<const std::byte*>(host.raw()), host.elements(), DType::kF32, out});
    return Tensor(out, DType::kF32, {host.elements()});
  }

  absl::StatusOr<LinearWeight> Random(int64_t rows, int64_t k, uint64_t seed, float scale) override {
    const LinearWeight weight = memory_.TakeMatrix(options_.dtype, rows, k);
    BERTH_RETURN_IF_ERROR(Fault(cudaSetDevice(options_.device), "selecting the device"));
    cuda::FillRandomWeights(seed, scale, rows * k, options_.dtype, Data(weight), nullptr);
    BERTH_RETURN_IF_ERROR(Fault(cudaGetLastError(), "a launch"));
    return weight;
  }

  absl::StatusOr<std::vector<Buffer>> Finish() override {
    JoinLanes();
    BERTH_RETURN_IF_ERROR(queue_.fault());
    BERTH_RETURN_IF_ERROR(Fault(cudaStreamSynchronize(nullptr), "waiting"));
    std::vector<Buffer> buffers;
    buffers.push_back(memory_.Release());
    return buffers;
  }

  absl::StatusOr<std::vector<std::optional<uint64_t>>> HashCopies(absl::Span<const Bytes> runs) override {
    std::vector<size_t> known;
    std::vector<cuda::HashRun> copies;
    for (size_t i = 0; i < runs.size(); ++i) {
      if (const std::byte* const copy = CopyOf(runs[i])) {
        known.push_back(i);
        copies.push_back({copy, static_cast<int64_t>(runs[i].size())});
      }
    }
    std::vector<std::optional<uint64_t>> hashes(runs.size());
    if (copies.empty()) return hashes;
    std::vector<uint64_t> values(copies.size());
    BERTH_RETURN_IF_ERROR(Fault(cudaSetDevice(options_.device), "selecting the device"));
    BERTH_RETURN_IF_ERROR(Fault(cuda::HashRuns(copies, absl::MakeSpan(values)), "hashing"));
    for (size_t i = 0; i < known.size(); ++i) hashes[known[i]] = values[i];
    return hashes;
  }

 private:
  static size_t Mebibytes(size_t bytes) { return (bytes + (size_t{1} << 20) - 1) >> 20; }
  static std::byte* Data(const LinearWeight& weight) { return const_cast<std::byte*>(weight.segments.front().data); }

  // In pieces that fit into a chunk.
  void Push(const Piece& whole) {
    while (static_cast<int>(lanes_.size()) < options_.threads) lanes_.push_back(std::make_unique<Lane>(options_, queue_));
    if (whole.from == whole.to) copied_[whole.source] = {RowBytes(whole.from, whole.elements), whole.out};
    const DTypeInfo& info = Info(whole.from);
    const int64_t most = options_.chunk_bytes / info.block_bytes * info.block_elements;
    const HostFile* const file = FileOf({whole.source, RowBytes(whole.from, whole.elements)});
    for (int64_t at = 0; at < whole.elements; at += most) {
      queue_.Push({whole.from, whole.source + RowBytes(whole.from, at), std::min(most, whole.elements - at), whole.to,
                   whole.out + RowBytes(whole.to, at), file});
    }
  }

  // Null: in none.
  const HostFile* FileOf(Bytes data) const {
    const auto holds = [&](const HostFile& file) {
      return file.mapped.data() <= data.data() && data.end() <= file.mapped.end();
    };
    const auto found = std::find_if(files_.begin(), files_.end(), holds);
    return found == files_.end() ? nullptr : &*found;
  }

  // Null: there is none, or a kernel cannot read it.
  const std::byte* CopyOf(Bytes run) const {
    auto copied = copied_.upper_bound(run.data());
    if (copied == copied_.begin()) return nullptr;
    const auto& [source, copy] = *--copied;
    const size_t at = run.data() - source;
    if (at + run.size() > copy.bytes) return nullptr;
    return reinterpret_cast<uintptr_t>(copy.out + at) % cuda::kHashAlignment == 0 ? copy.out + at : nullptr;
  }

  void JoinLanes() {
    queue_.Close();
    for (const std::unique_ptr<Lane>& lane : lanes_) lane->Join();
    lanes_.clear();
  }

  const CudaWeightUploaderOptions options_;
  WeightMemory memory_;
  std::deque<HostFile> files_;
  PieceQueue queue_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  struct Copied {
    size_t bytes = 0;
    const std::byte* out = nullptr;
  };
  std::map<const std::byte*, Copied> copied_;  // by where it was on the host
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightUploader>> MakeCudaWeightUploader(const CudaWeightUploaderOptions& options) {
  auto uploader = std::make_unique<CudaWeightUploader>(options);
  BERTH_RETURN_IF_ERROR(uploader->Init());
  return uploader;
}

}  // namespace berth::kernels
