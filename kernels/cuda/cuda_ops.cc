#include "kernels/cuda/cuda_ops.h"

#include <cuda_runtime.h>

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/recordings.h"
#include "kernels/cuda/stages.h"
#include "kernels/cuda/stream/chain.h"

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

void Context::Flush() {
  if (const auto products = std::exchange(pending, nullptr)) products->Launch(*this);
}

void Context::Prepare(const void* kernel) {
  if (!prepared.insert(kernel).second) return;
  constexpr std::string_view kWhat = "a kernel's setup";
  cudaFuncAttributes attributes{};
  Note(cudaFuncGetAttributes(&attributes, kernel), kWhat);
  const int most = shared_bytes - static_cast<int>(attributes.sharedSizeBytes);
  Note(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared), kWhat);
  Note(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), kWhat);
}

void Context::ReadDevice(int device, bool generic) {
  int major = 0;
  Note(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "asking the device");
  Note(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "asking the device");
  Note(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking the device");
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  Note(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found),
       "asking the driver");
  encode_tiled = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encode);
  hopper = !generic && major == 9 && encode_tiled != nullptr;
}

}  // namespace cuda

namespace {

class CudaOps : public Ops {
 public:
  CudaOps() = default;
  ~CudaOps() override {
    context_.blas_plans.clear();
    for (const cudaEvent_t mark : marks_) {
      if (mark != nullptr) cudaEventDestroy(mark);
    }
    if (context_.blas != nullptr) cublasLtDestroy(context_.blas);
    if (context_.stream != nullptr) {
      cudaStreamSynchronize(context_.stream);
      cudaStreamDestroy(context_.stream);
    }
  }

  absl::Status Init(const CudaOpsOptions& options) {
    BERTH_RETURN_IF_ERROR(CheckCudaDevice(options.device));
    device_ = options.device;
    context_.Note(cudaSetDevice(options.device), "selecting the device");
    context_.Note(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "making a stream");
    context_.Note(cublasLtCreate(&context_.blas), "starting cuBLASLt");
    for (cudaEvent_t& mark : marks_) {
      context_.Note(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "making an event");
    }
    context_.ReadDevice(options.device, options.generic_kernels);
    context_.batch_invariant = options.batch_invariant;
    int shared = 0;
    context_.Note(cudaDeviceGetAttribute(&shared, cudaDevAttrMpsEnabled, options.device), "asking the device");
    context_.stream_tuning.together = !options.alone || shared != 0;
    BERTH_RETURN_IF_ERROR(context_.fault);
    const std::unique_ptr<Allocator> allocator = MakeCudaAllocator(options.device);
    const auto rows = static_cast<size_t>(options.max_tokens);
    BERTH_ASSIGN_OR_RETURN(context_.blas_workspace, allocator->Allocate(cuda::kBlasWorkspaceBytes));
    BERTH_ASSIGN_OR_RETURN(context_.normed, allocator->Allocate(rows * options.max_hidden * sizeof(uint16_t)));
    BERTH_ASSIGN_OR_RETURN(context_.product, allocator->Allocate(rows * options.max_product * sizeof(float)));
    if (options.max_adapter_rank > 0) {
      BERTH_ASSIGN_OR_RETURN(context_.adapted, allocator->Allocate(rows * options.max_adapter_rank * sizeof(uint16_t)));
    }
    BERTH_ASSIGN_OR_RETURN(context_.sample_parts, allocator->Allocate(rows * cuda::kSamplePartBytes));
    BERTH_ASSIGN_OR_RETURN(context_.best, allocator->Allocate(rows * sizeof(uint64_t)));
    BERTH_RETURN_IF_ERROR(cuda::ReserveAttend(context_, *allocator));
    BERTH_RETURN_IF_ERROR(cuda::ReserveChains(context_, options.max_product, *allocator));
    BERTH_RETURN_IF_ERROR(cuda::ReserveMoe(context_, options.moe, options.max_tokens, options.max_hidden, *allocator));
    return absl::OkStatus();
  }

  void Attach() override {
    // Every step attaches, and what is selected is told faster than selected again.
    int current = -1;
    if (cudaGetDevice(&current) != cudaSuccess || current != device_) {
      context_.Note(cudaSetDevice(device_), "selecting the device");
    }
  }
  void Upload(void* device, const void* host, size_t bytes) override {
    context_.Flush();
    if (cuda::CopySmall(context_, device, host, bytes, host)) return;
    context_.Note(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, context_.stream), "an upload");
  }
  void Download(void* host, const void* device, size_t bytes) override {
    context_.Flush();
    if (cuda::CopySmall(context_, host, device, bytes, host)) return;
    context_.Note(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context_.stream), "a download");
  }
  void Mark(int mark) override {
    context_.Flush();
    context_.Note(cudaEventRecord(marks_.at(mark), context_.stream), "marking a step");
  }
  absl::Status Wait(int mark) override {
    context_.Note(cudaGetLastError(), "a launch");
    context_.Note(cudaEventSynchronize(marks_.at(mark)), "a step");
    return context_.fault;
  }

  void BeginRecording() override { recordings_.Begin(context_); }
  absl::StatusOr<int> EndRecording() override { return recordings_.End(context_); }
  void Replay(int recording) override { recordings_.Replay(context_, recording); }
  void BeginOnce() override { step_graphs_.Begin(); }
  void EndOnce() override { step_graphs_.End(context_); }

  absl::Status Sync() override {
    context_.Flush();
    context_.Note(cudaGetLastError(), "a launch");
    context_.Note(cudaStreamSynchronize(context_.stream), "a step");
    return std::exchange(context_.fault, absl::OkStatus());
  }

 private:
  void DoEmbed(const EmbedArgs& args) override { cuda::Embed(context_, args); }
  void DoGather(const GatherArgs& args) override { cuda::Gather(context_, args); }
  void DoAttnIn(const AttnInArgs& args) override { cuda::AttnIn(context_, args); }
  void DoLatentIn(const LatentInArgs& args) override { cuda::LatentIn(context_, args); }
  void DoAttend(const AttendArgs& args) override {
    cuda::Attend(context_, args);
    step_graphs_.Attended(context_);
  }
  void DoLatentOut(const LatentOutArgs& args) override { cuda::LatentOut(context_, args); }
  void DoProjectOut(const ProjectOutArgs& args) override { cuda::ProjectOut(context_, args); }
  void DoMlpUp(const MlpUpArgs& args) override { cuda::MlpUp(context_, args); }
  void DoMoe(const MoeArgs& args) override { cuda::Moe(context_, args); }
  void DoHead(const HeadArgs& args) override { cuda::Head(context_, args); }
  void DoPool(const PoolArgs& args) override { cuda::Pool(context_, args); }
  void DoAdmit(const AdmitArgs& args) override { cuda::Admit(context_, args); }
  void DoSample(const SampleArgs& args) override { cuda::Sample(context_, args); }

  int device_ = 0;
  cuda::Context context_;
  std::array<cudaEvent_t, kMarks> marks_{};
  cuda::Recordings recordings_;
  cuda::StepGraphs step_graphs_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps(const CudaOpsOptions& options) {
  auto ops = std::make_unique<CudaOps>();
  BERTH_RETURN_IF_ERROR(ops->Init(options));
  return ops;
}

}  // namespace berth::kernels
