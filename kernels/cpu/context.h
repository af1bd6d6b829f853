#pragma once

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace berth::kernels::cpu {

// A float array that grows to the largest size asked for and keeps it. Contents do not survive a call of Get.
class Scratch {
 public:
  float* Get(size_t count) {
    if (count > count_) {
      data_ = hwy::AllocateAligned<float>(count);
      count_ = count;
    }
    return data_.get();
  }

 private:
  hwy::AlignedFreeUniquePtr<float[]> data_;
  size_t count_ = 0;
};

// What the ops of one CpuOps share. An op may use every scratch; none outlives it.
struct Context {
  explicit Context(int threads) : pool(threads), thread(threads) {}

  ThreadPool pool;
  std::vector<Scratch> thread;  // per thread of the pool
  Scratch normed;               // rows that a norm made
  Scratch product;              // rows that a product made
  Scratch row;                  // scores of rows
  Scratch expert_in;            // the rows that go to one expert
  Scratch expert_up;            // what goes between its products
  Scratch latent;               // rows of latents
  Scratch padded;               // Linear's own
};

// Rows that one task takes when an op works row by row: few enough to share out, many enough to pay for the hand-over.
inline constexpr int kRowsPerTask = 4;

inline int RowTasks(int64_t rows) { return static_cast<int>((rows + kRowsPerTask - 1) / kRowsPerTask); }

// Calls row(r, thread) for each r in [0, rows).
template <typename Row>
void ForRows(Context& context, int64_t rows, const Row& row) {
  context.pool.Run(RowTasks(rows), [&](int task, int thread) {
    const int64_t begin = static_cast<int64_t>(task) * kRowsPerTask;
    for (int64_t r = begin; r < std::min(begin + kRowsPerTask, rows); ++r) row(r, thread);
  });
}

}  // namespace berth::kernels::cpu
