// How fast weights reach the device: a file in the page cache, mapped afresh, to bf16 in the device's memory.
//
// usage: upload_bench FOLDER GIGABYTES [THREADS…]      writes a file of that size into FOLDER, and removes it
//        upload_bench --load THREADS MODEL…            loads models in turn, each beside an upload of its largest file alone,
//        and
//                                                      as much from pinned memory
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/check.h"
#include "base/clock.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/upload.h"
#include "worker/loader/model_loader.h"

namespace berth::kernels {
namespace {

constexpr int64_t kColumns = 4096;
constexpr int64_t kMatrixRows = 14336;

double Now() { return absl::ToDoubleSeconds(base::SystemClock().Monotonic()); }

void WriteFile(const std::string& path, size_t bytes) {
  std::vector<uint32_t> block(4 << 20);
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint32_t>(i * 2654435761u) & 0x3FFF3FFF;  // no NaN scale
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  BERTH_CHECK(file != nullptr) << path;
  for (size_t done = 0; done < bytes; done += block.size() * 4)
    BERTH_CHECK(std::fwrite(block.data(), 4, block.size(), file) > 0);
  std::fclose(file);
}

std::unique_ptr<WeightUploader> Reserved(int threads, int64_t elements, int64_t matrices) {
  auto uploader = MakeCudaWeightUploader({.threads = threads});
  BERTH_CHECK(uploader.ok()) << uploader.status();
  const absl::Status status = (*uploader)->Reserve({.matrix_elements = elements, .weights = matrices});
  BERTH_CHECK(status.ok()) << status;
  return *std::move(uploader);
}

void Upload(const std::string& path, size_t bytes, DType dtype, int threads) {
  const int fd = open(path.c_str(), O_RDONLY);
  void* const mapped = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const size_t matrix_bytes = kMatrixRows * RowBytes(dtype, kColumns);
  const int64_t matrices = static_cast<int64_t>(bytes / matrix_bytes);
  const double start = Now();
  const auto uploader = Reserved(threads, matrices * kMatrixRows * kColumns, matrices);
  const double reserved = Now();
  for (int64_t i = 0; i < matrices; ++i) {
    const auto* data = static_cast<const std::byte*>(mapped) + i * matrix_bytes;
    BERTH_CHECK(uploader->Matrix({.k = kColumns, .segments = {{dtype, kMatrixRows, data}}}).ok());
  }
  const auto buffers = uploader->Finish();
  BERTH_CHECK(buffers.ok()) << buffers.status();
  const double seconds = Now() - reserved, size = static_cast<double>(matrices * matrix_bytes);
  std::printf("%-5s %d threads: reserve %.3f s, upload %.3f s, %.1f GB/s of the file\n", std::string(Info(dtype).name).c_str(),
              threads, reserved - start, seconds, size / seconds / 1e9);
  munmap(mapped, bytes);
  close(fd);
}

void Random(size_t bytes) {
  const int64_t rows = static_cast<int64_t>(bytes / 2 / kColumns);
  const auto uploader = Reserved(1, rows * kColumns, 1);
  const double start = Now();
  BERTH_CHECK(uploader->Random(rows, kColumns, 1, 0.02f).ok());
  BERTH_CHECK(uploader->Finish().ok());
  std::printf("random: %.3f s for %.1f GB\n", Now() - start, static_cast<double>(bytes) / 1e9);
}

void Load(const std::string& model, int threads) {
  const double start = Now();
  const auto uploader = MakeCudaWeightUploader({.threads = threads});
  BERTH_CHECK(uploader.ok()) << uploader.status();
  const auto loaded = loader::LoadModel(model, {.uploader = uploader->get()});
  BERTH_CHECK(loaded.ok()) << loaded.status();
  std::printf("%s, %d threads: loaded in %.3f s\n", model.c_str(), threads, Now() - start);
}

// The bus alone.
void CopyPinned(size_t bytes) {
  constexpr size_t kBytes = size_t{1} << 30;
  const Buffer host = *MakePinnedAllocator(0)->Allocate(kBytes), device = *MakeCudaAllocator(0)->Allocate(kBytes);
  const double start = Now();
  for (size_t at = 0; at < bytes; at += kBytes) {
    cudaMemcpyAsync(device.data(), host.data(), std::min(kBytes, bytes - at), cudaMemcpyHostToDevice, nullptr);
  }
  BERTH_CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  const double seconds = Now() - start;
  std::printf("pinned memory to the device: %.3f s, %.1f GB/s\n", seconds, static_cast<double>(bytes) / seconds / 1e9);
}

void LoadAndCopy(const std::string& model, int threads) {
  Load(model, threads);
  std::filesystem::directory_entry largest;
  for (const auto& file : std::filesystem::directory_iterator(model)) {
    if (file.is_regular_file() && (largest.path().empty() || file.file_size() > largest.file_size())) largest = file;
  }
  Upload(largest.path().string(), largest.file_size(), DType::kBF16, threads);
  CopyPinned(largest.file_size());
}

}  // namespace
}  // namespace berth::kernels

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: upload_bench FOLDER GIGABYTES [THREADS…]\n       upload_bench --load THREADS MODEL…\n");
    return 2;
  }
  if (std::string(argv[1]) == "--load") {
    berth::kernels::Reserved(1, 1, 1);  // the device's context
    for (int round = 0; round < 3; ++round) {
      for (int i = 3; i < argc; ++i) berth::kernels::LoadAndCopy(argv[i], std::atoi(argv[2]));
    }
    return 0;
  }
  using berth::kernels::DType;
  const std::string path = std::string(argv[1]) + "/upload_bench.bin";
  const size_t bytes = static_cast<size_t>(std::atof(argv[2]) * 1e9);
  std::vector<int> threads;
  for (int i = 3; i < argc; ++i) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2, 4, 8, 12};
  berth::kernels::WriteFile(path, bytes);
  for (const int count : threads) {
    for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
      // What Q4_K becomes is more than three times as large.
      berth::kernels::Upload(path, dtype == DType::kBF16 ? bytes : bytes / 3, dtype, count);
    }
  }
  berth::kernels::Random(bytes);
  unlink(path.c_str());
  return 0;
}
