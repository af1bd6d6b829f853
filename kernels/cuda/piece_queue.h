#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "kernels/dtype.h"
#include "kernels/weight_uploader.h"

namespace berth::kernels::cuda {

// Consecutive values on their way to the device.
struct Piece {
  DType from = DType::kF32;
  const std::byte* source = nullptr;
  int64_t elements = 0;
  DType to = DType::kF32;
  std::byte* out = nullptr;
  const HostFile* file = nullptr;  // that `source` lies in, to be read from
};

// From an uploader to the threads that copy, with their first fault going back. Thread-safe.
class PieceQueue {
 public:
  void Push(const Piece& piece);
  // No piece will follow.
  void Close();
  // Waits for a piece. False when the queue is closed and empty, or after a fault.
  bool Pop(Piece* piece);
  void Fail(absl::Status fault);
  absl::Status fault();

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<Piece> pieces_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status fault_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::kernels::cuda
