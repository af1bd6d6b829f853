#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace berth::cli {

// All runs of one kernel.
struct KernelTime {
  std::string name;  // without namespaces and parameters
  int64_t calls = 0;
  double seconds = 0;  // in sum; kernels may overlap
};

// Sums times by symbol. Thread-safe.
class KernelTimes {
 public:
  // `symbol`: maybe a mangled name.
  void Add(const std::string& symbol, double seconds);
  // What was added since the last call, the longest first.
  std::vector<KernelTime> Take();

 private:
  base::Mutex mutex_;
  std::map<std::string, KernelTime> by_symbol_ ABSL_GUARDED_BY(mutex_);
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
