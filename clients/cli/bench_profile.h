#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace berth::cli {

// All runs of one kernel.
struct KernelTime {
  std::string name;  // without namespaces and parameters
  int64_t calls = 0;
  double seconds = 0;  // in sum, each from the end of all that ended before it, for one may start beside others and wait
};

// Sums times by symbol. Thread-safe.
class KernelTimes {
 public:
  // One run, in any order. `symbol`: maybe a mangled name; `begin` and `end` in ns of one clock.
  void Add(const std::string& symbol, int64_t begin, int64_t end);
  // What was added since the last call, the longest first.
  std::vector<KernelTime> Take();

 private:
  struct Run {
    int64_t begin, end;
    const std::string* symbol;  // of symbols_
  };
  base::Mutex mutex_;
  std::set<std::string> symbols_ ABSL_GUARDED_BY(mutex_);
  std::vector<Run> runs_ ABSL_GUARDED_BY(mutex_);
};

// Times every kernel that the device runs, those of graphs too. Steps take longer meanwhile. One at a time in a process, and
// made before the device is first used.
class KernelProfiler {
 public:
  virtual ~KernelProfiler() = default;
  // What ran since the last call, the longest first. The device is idle.
  virtual absl::StatusOr<std::vector<KernelTime>> Take() = 0;
};

// UNIMPLEMENTED in builds without CUDA; FAILED_PRECONDITION: CUPTI, which comes with CUDA toolkits, is not on this host.
absl::StatusOr<std::unique_ptr<KernelProfiler>> MakeKernelProfiler();

// One line for each of the first `count`: share of all kernels' time, calls, mean time.
std::string FormatKernels(const std::vector<KernelTime>& kernels, size_t count);

}  // namespace berth::cli
