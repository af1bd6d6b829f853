#include "base/hash.h"
#include "kernels/cuda/hash_runs.h"

namespace berth::kernels::cuda {
namespace {

constexpr int kThreads = 32;
constexpr int kAhead = 32;  // pieces of 16 bytes that are under way: they take as long as hashing so many

__global__ void Hash(const HashRun* runs, int count, uint64_t* hashes) {
  const int index = blockIdx.x * kThreads + threadIdx.x;
  if (index >= count) return;
  const HashRun run = runs[index];
  const auto* const pieces = reinterpret_cast<const ulonglong2*>(run.bytes);
  uint64_t hash = base::HashCombine(0, run.size);
  const int64_t whole = run.size / 16 / kAhead * kAhead;
  ulonglong2 ahead[kAhead];
  if (whole > 0) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) ahead[i] = pieces[i];
  }
  for (int64_t at = 0; at < whole; at += kAhead) {
    const int64_t next = at + kAhead < whole ? at + kAhead : at;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      hash = base::HashCombine(base::HashCombine(hash, ahead[i].x), ahead[i].y);
      ahead[i] = pieces[next + i];
    }
  }
  for (int64_t at = whole * 16; at < run.size; at += 8) {
    uint64_t word = 0;
    for (int i = 0; i < 8 && at + i < run.size; ++i) word |= static_cast<uint64_t>(run.bytes[at + i]) << 8 * i;
    hash = base::HashCombine(hash, word);
  }
  hashes[index] = base::HashEnd(hash);
}

}  // namespace

cudaError_t HashRuns(absl::Span<const HashRun> runs, absl::Span<uint64_t> hashes) {
  HashRun* device_runs = nullptr;
  uint64_t* device_hashes = nullptr;
  cudaError_t error = cudaMalloc(&device_runs, sizeof(HashRun) * runs.size());
  if (error == cudaSuccess) error = cudaMalloc(&device_hashes, sizeof(uint64_t) * runs.size());
  if (error == cudaSuccess) {
    error = cudaMemcpy(device_runs, runs.data(), sizeof(HashRun) * runs.size(), cudaMemcpyHostToDevice);
  }
  if (error == cudaSuccess) {
    const auto count = static_cast<int>(runs.size());
    Hash<<<(count + kThreads - 1) / kThreads, kThreads>>>(device_runs, count, device_hashes);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) {
    error = cudaMemcpy(hashes.data(), device_hashes, sizeof(uint64_t) * runs.size(), cudaMemcpyDeviceToHost);
  }
  cudaFree(device_runs);
  cudaFree(device_hashes);
  return error;
}

}  // namespace berth::kernels::cuda
