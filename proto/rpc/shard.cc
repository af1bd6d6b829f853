#include "proto/rpc/shard.h"

#include <pthread.h>

#include <limits>
#include <utility>

#include "base/check.h"
#include "grpc/support/time.h"

// gRPC's libraries are not instrumented: ThreadSanitizer learns here that a completion follows the start of its operation.
#ifdef BERTH_THREAD_SANITIZER
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#else
static void __tsan_acquire(void*) {}
static void __tsan_release(void*) {}
#endif

namespace berth::rpc {
namespace {

int64_t NowNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

gpr_timespec Until(int64_t nanos) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(nanos - NowNanos(), GPR_TIMESPAN));
}

}  // namespace

void* Event::Arm(Shard& shard, std::shared_ptr<void> keep) {
  Expect(shard, std::move(keep));
  return tag();
}

void* Event::tag() {
  __tsan_release(this);
  return this;
}

void Event::Expect(Shard& shard, std::shared_ptr<void> keep) {
  BERTH_CHECK(keep_ == nullptr) << "an event was armed twice";
  keep_ = std::move(keep);
  ++shard.outstanding_;
}

void Event::Complete(bool ok) {
  const std::shared_ptr<void> keep = std::move(keep_);
  on_complete_(ok);
}

Shard::Shard(std::unique_ptr<grpc::CompletionQueue> queue) : queue_(std::move(queue)) {}

Shard::~Shard() { Stop(); }

void Shard::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "rpc-shard");
    Loop();
  });
}

void Shard::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    if (!wake_armed_ && thread_.joinable()) {
      wake_armed_ = true;
      __tsan_release(this);
      wake_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), this);
    }
  }
  if (thread_.joinable()) {
    thread_.join();
  } else if (!joined_) {
    queue_->Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_->Next(&tag, &ok);) {
    }
  }
  joined_ = true;
}

void Shard::Post(absl::AnyInvocable<void()> function) {
  base::MutexLock lock(mutex_);
  if (stopping_) return;
  posted_.push_back(std::move(function));
  if (wake_armed_) return;
  wake_armed_ = true;
  __tsan_release(this);
  wake_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), this);
}

Shard::TimerId Shard::After(absl::Duration delay, absl::AnyInvocable<void()> function) {
  const TimerId id(NowNanos() + absl::ToInt64Nanoseconds(delay), next_timer_++);
  timers_.emplace(id, std::move(function));
  return id;
}

void Shard::CancelTimer(TimerId id) { timers_.erase(id); }

void Shard::Loop() {
  bool queue_open = true;
  while (true) {
    RunDueTimers();
    gather_.EndTurn();
    if (queue_open && outstanding_ == 0) {
      base::MutexLock lock(mutex_);
      if (stopping_) {
        queue_->Shutdown();
        queue_open = false;
      }
    }
    void* tag = nullptr;
    bool ok = false;
    const gpr_timespec deadline = timers_.empty() ? gpr_inf_future(GPR_CLOCK_MONOTONIC) : Until(timers_.begin()->first.first);
    switch (queue_->AsyncNext(&tag, &ok, deadline)) {
      case grpc::CompletionQueue::SHUTDOWN:
        return;
      case grpc::CompletionQueue::TIMEOUT:
        break;
      case grpc::CompletionQueue::GOT_EVENT:
        __tsan_acquire(tag);
        if (tag == this) {
          RunPosted();
        } else {
          --outstanding_;
          static_cast<Event*>(tag)->Complete(ok);
        }
    }
  }
}

void Shard::RunPosted() {
  std::vector<absl::AnyInvocable<void()>> functions;
  {
    base::MutexLock lock(mutex_);
    functions.swap(posted_);
    wake_armed_ = false;
  }
  for (absl::AnyInvocable<void()>& function : functions) {
    function();
    function = nullptr;
  }
}

void Shard::RunDueTimers() {
  const int64_t now = NowNanos();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto timer = timers_.extract(timers_.begin());
    timer.mapped()();
  }
}

}  // namespace berth::rpc
