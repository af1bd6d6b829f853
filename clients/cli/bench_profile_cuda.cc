#include <cupti.h>
#include <dlfcn.h>

#include <cstdlib>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_profile.h"

namespace berth::cli {
namespace {

constexpr size_t kBufferBytes = size_t{8} << 20;

// CUPTI's functions, found at run time: hosts that only serve lack the library.
struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;
};

// What CUPTI's callbacks write to: they carry no argument of ours.
struct Collected {
  Cupti cupti;
  KernelTimes times;
};
Collected& TheCollected() {
  static Collected collected;
  return collected;
}

void CUPTIAPI OnBufferRequested(uint8_t** buffer, size_t* size, size_t* max_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(8, kBufferBytes));
  *size = kBufferBytes;
  *max_records = 0;
}

void CUPTIAPI OnBufferCompleted(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
  Collected& collected = TheCollected();
  CUpti_Activity* record = nullptr;
  while (collected.cupti.next_record(buffer, valid, &record) == CUPTI_SUCCESS) {
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto& kernel = *reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    collected.times.Add(kernel.name, static_cast<int64_t>(kernel.start), static_cast<int64_t>(kernel.end));
  }
  std::free(buffer);
}

class CuptiProfiler final : public KernelProfiler {
 public:
  absl::Status Init() {
    void* library = nullptr;
    for (const char* name : {"libcupti.so.13", "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so.13"}) {
      if (library == nullptr) library = dlopen(name, RTLD_NOW);
    }
    if (library == nullptr) return absl::FailedPreconditionError("libcupti.so.13, of the CUDA toolkit, is not found");
    Cupti& cupti = TheCollected().cupti;
    const auto find = [library](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    if (!find(cupti.register_callbacks, "cuptiActivityRegisterCallbacks") || !find(cupti.enable, "cuptiActivityEnable") ||
        !find(cupti.flush, "cuptiActivityFlushAll") || !find(cupti.next_record, "cuptiActivityGetNextRecord") ||
        !find(cupti.result_string, "cuptiGetResultString")) {
      return absl::FailedPreconditionError("libcupti.so.13 lacks a function");
    }
    BERTH_RETURN_IF_ERROR(Check(cupti.register_callbacks(OnBufferRequested, OnBufferCompleted)));
    return Check(cupti.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
  }

  absl::StatusOr<std::vector<KernelTime>> Take() override {
    Collected& collected = TheCollected();
    BERTH_RETURN_IF_ERROR(Check(collected.cupti.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)));
    return collected.times.Take();
  }

 private:
  static absl::Status Check(CUptiResult result) {
    if (result == CUPTI_SUCCESS) return absl::OkStatus();
    const char* text = "";
    TheCollected().cupti.result_string(result, &text);
    return absl::FailedPreconditionError(absl::StrCat("CUPTI: ", text));
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<KernelProfiler>> MakeKernelProfiler() {
  auto profiler = std::make_unique<CuptiProfiler>();
  BERTH_RETURN_IF_ERROR(profiler->Init());
  return profiler;
}

}  // namespace berth::cli
