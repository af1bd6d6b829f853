#include "clients/cli/bench_profile.h"

namespace berth::cli {

absl::StatusOr<std::unique_ptr<KernelProfiler>> MakeKernelProfiler() {
  return absl::UnimplementedError("this build has no CUDA: there are no kernels to time");
}

}  // namespace berth::cli
