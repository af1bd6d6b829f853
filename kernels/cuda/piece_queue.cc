#include "kernels/cuda/piece_queue.h"

#include <utility>

namespace berth::kernels::cuda {

void PieceQueue::Push(const Piece& piece) {
  base::MutexLock lock(mutex_);
  pieces_.push_back(piece);
  changed_.NotifyOne();
}

void PieceQueue::Close() {
  base::MutexLock lock(mutex_);
  closed_ = true;
  changed_.NotifyAll();
}

bool PieceQueue::Pop(Piece* piece) {
  base::MutexLock lock(mutex_);
  while (pieces_.empty() && !closed_ && fault_.ok()) changed_.Wait(mutex_);
  if (pieces_.empty() || !fault_.ok()) return false;
  *piece = pieces_.front();
  pieces_.pop_front();
  return true;
}

void PieceQueue::Fail(absl::Status fault) {
  base::MutexLock lock(mutex_);
  if (fault_.ok()) fault_ = std::move(fault);
  changed_.NotifyAll();
}

absl::Status PieceQueue::fault() {
  base::MutexLock lock(mutex_);
  return fault_;
}

}  // namespace berth::kernels::cuda
