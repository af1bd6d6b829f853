#include "kernels/cuda/cuda_ops.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/stages.h"

namespace berth::kernels {
namespace cuda {

void Context::Note(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess || !fault.ok()) return;
  fault = absl::UnavailableError(absl::StrCat("device fault in ", std::string(what), ": ", cudaGetErrorString(error)));
}

void Context::Note(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS || !fault.ok()) return;
  fault = absl::UnavailableError(absl::StrCat("cuBLASLt fault in ", std::string(what), ": ", cublasLtGetStatusString(status)));
}

void Context::ReadDevice(int device) {
  int major = 0;
  Note(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "asking the device");
  Note(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking the device");
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  Note(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found),
       "asking the driver");
  encode_tiled = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encode);
  hopper = major == 9 && encode_tiled != nullptr;
}

}  // namespace cuda

namespace {

constexpr int kOldestComputeCapability = 80;

class CudaOps : public Ops {
 public:
  CudaOps() = default;
  ~CudaOps() override {
    context_.blas_plans.clear();
    if (context_.blas != nullptr) cublasLtDestroy(context_.blas);
    if (context_.stream != nullptr) {
      cudaStreamSynchronize(context_.stream);
      cudaStreamDestroy(context_.stream);
    }
  }

  absl::Status Init(const CudaOpsOptions& options) {
    BERTH_RETURN_IF_ERROR(CheckDevice(options.device));
    context_.Note(cudaSetDevice(options.device), "selecting the device");
    context_.Note(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "making a stream");
    context_.Note(cublasLtCreate(&context_.blas), "starting cuBLASLt");
    context_.ReadDevice(options.device);
    BERTH_RETURN_IF_ERROR(context_.fault);
    const std::unique_ptr<Allocator> allocator = MakeCudaAllocator(options.device);
    const auto rows = static_cast<size_t>(options.max_tokens);
    BERTH_ASSIGN_OR_RETURN(context_.blas_workspace, allocator->Allocate(cuda::kBlasWorkspaceBytes));
    BERTH_ASSIGN_OR_RETURN(context_.normed, allocator->Allocate(rows * options.max_hidden * sizeof(uint16_t)));
    BERTH_ASSIGN_OR_RETURN(context_.product, allocator->Allocate(rows * options.max_product * sizeof(float)));
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    context_.Note(cudaGetLastError(), "a launch");
    context_.Note(cudaStreamSynchronize(context_.stream), "a step");
    return std::exchange(context_.fault, absl::OkStatus());
  }

 private:
  static absl::Status CheckDevice(int device) {
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
      return absl::FailedPreconditionError(absl::StrCat("no CUDA device can be used: ", cudaGetErrorString(error)));
    }
    if (device < 0 || device >= count) {
      return absl::FailedPreconditionError(absl::StrCat("device ", device, " does not exist: there are ", count));
    }
    cudaDeviceProp properties;
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) {
      return absl::FailedPreconditionError(absl::StrCat("device ", device, ": ", cudaGetErrorString(error)));
    }
    if (properties.major * 10 + properties.minor < kOldestComputeCapability) {
      return absl::FailedPreconditionError(absl::StrCat("device ", device, ", ", properties.name, ", has compute capability ",
                                                        properties.major, ".", properties.minor, ", want 8.0 or later"));
    }
    return absl::OkStatus();
  }

  void DoEmbed(const EmbedArgs& args) override { cuda::Embed(context_, args); }
  void DoAttnIn(const AttnInArgs& args) override { cuda::AttnIn(context_, args); }
  void DoAttend(const AttendArgs& args) override { cuda::Attend(context_, args); }
  void DoProjectOut(const ProjectOutArgs& args) override { cuda::ProjectOut(context_, args); }
  void DoMlpUp(const MlpUpArgs& args) override { cuda::MlpUp(context_, args); }
  void DoHead(const HeadArgs& args) override { cuda::Head(context_, args); }
  void DoSample(const SampleArgs& args) override { cuda::Sample(context_, args); }

  cuda::Context context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOpsOptions& options) {
  auto ops = std::make_unique<CudaOps>();
  BERTH_RETURN_IF_ERROR(ops->Init(options));
  return ops;
}

}  // namespace berth::kernels
