#pragma once

#include <cublasLt.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "kernels/buffer.h"
#include "kernels/cuda/blas_plans.h"

namespace berth::kernels::cuda {

// How the streaming product uses an SM; `step_bench` tries others.
struct StreamTuning {
  int chain_tokens = 8;  // products of more tokens are cut along K (split/), where they can be
  int stages = 12;       // of a chain, where there is room
  int links = 4;         // of a chain
  int flying = 3;        // stages of a chain whose copies are under way at once: with more, all else waits for them
  bool together = true;  // a chain's blocks wait for each other
  int ctas_per_sm = 2;   // of the wide kernel
  int gated_width = 0;   // GatedPlan's width, 0: the one that PlanGated chooses
};

struct Context;

// Products that were asked for and are queued together, before anything else is. See stream/chain_launch.h.
class PendingProducts {
 public:
  virtual ~PendingProducts() = default;
  virtual void Launch(Context& context) = 0;
};

// Of how many tokens all products take the plan in a context that is batch-invariant.
inline constexpr int64_t kSharedPlanTokens = 128;

inline constexpr size_t kBlasWorkspaceBytes = size_t{32} << 20;
inline constexpr size_t kSamplePartBytes = 512;  // what sampling keeps of the parts of one row

// What decode attention plans by: layers of a batch that agree in all of it begin their blocks in the same places.
struct DecodePlanKey {
  uint64_t batch = 0;            // Batch::number
  const void* kernel = nullptr;  // that plans
  int entries = 0, kv_heads = 0, group = 0, window = 0;

  bool operator==(const DecodePlanKey&) const = default;
};

// What attention keeps. See attend/.
struct AttendResources {
  Buffer parts;   // where the blocks of decode attention leave their parts of a row, zeros between launches
  Buffer starts;  // [plans] where the blocks of decode attention begin
  std::array<DecodePlanKey, 2> plans;  // of what is, or will be by then, in `starts`: layers with a window and without
  size_t next_plan = 0;
  Buffer taken;  // i32 [1] pieces of work that prefill attention has taken, 0 between launches

  // Where to keep the plan, and whether it is there. Otherwise the caller queues what puts it there.
  std::pair<void*, bool> FindPlan(const DecodePlanKey& key);
};

// What mixtures of experts keep; a visit is a token at one of its experts. See moe.cu.
struct MoeResources {
  Buffer visits;   // i32 and f32 [visits] each, by token and by expert
  Buffer scores;   // f32 [max_tokens, experts]
  Buffer between;  // [visits, intermediate] activations
  Buffer result;   // f32 [visits, max_hidden]
};

// What the ops of one CudaOps share. Thread: the executor's.
struct Context {
  cudaStream_t stream = nullptr;
  cublasLtHandle_t blas = nullptr;
  Buffer blas_workspace;
  Buffer normed;        // [max_tokens, max_hidden] activations
  Buffer product;       // [max_tokens, max_product] f32 or activations
  Buffer adapted;       // [max_tokens, max_adapter_rank] activations
  Buffer sample_parts;  // [max_tokens] × kSamplePartBytes
  Buffer best;          // u64 [max_tokens] best tokens of rows (util/best.cuh) from a head to what samples them, else 0
  bool best_found = false;
  AttendResources attend;
  MoeResources moe;
  BlasPlans blas_plans;
  StreamTuning stream_tuning;
  Buffer chain_state;   // of chains of products, see ChainState
  Buffer chain_handed;  // two sets of what their links hand on, see stream/handed.cuh
  size_t chain_set_bytes = 0;
  std::unique_ptr<PendingProducts> pending;
  bool serial = false;  // the next kernel starts when all before it have ended, see Launch
  int multiprocessors = 0;
  int shared_bytes = 0;                       // that a block may have at most
  absl::flat_hash_set<const void*> prepared;  // kernels that were launched before
  bool batch_invariant = false;  // all products take one plan and all rows one attention, whatever rows are beside them
  bool hopper = false;           // kernels of sm_90 may be used
  PFN_cuTensorMapEncodeTiled_v12000 encode_tiled = nullptr;  // the driver's; set if `hopper`
  absl::Status fault;                                        // first one since the last Sync

  // Fills in what the kernels have to know of the device. `generic`: kernels of one architecture are not used.
  void ReadDevice(int device, bool generic);

  // Before a kernel's first launch: lets it have as much shared memory as there is. Every kernel asks for the largest share of
  // an SM's memory: one that had to change its split between L1 and shared memory would first have to run empty.
  void Prepare(const void* kernel);

  // Queues what is pending. Whatever is put on the stream otherwise comes after it.
  void Flush();

  // Keeps the first error of launches and library calls.
  void Note(cudaError_t error, std::string_view what);
  void Note(cublasStatus_t status, std::string_view what);
};

}  // namespace berth::kernels::cuda
