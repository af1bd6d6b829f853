#include "kernels/cuda/stream/stream_plan.h"

#include <algorithm>

namespace berth::kernels::cuda::stream {
namespace {

// Fewer do not keep the memory busy.
constexpr int kMinStages = 3;
// Smaller copies are too many.
constexpr int kMinChunk = 128;

}  // namespace

std::optional<StreamPlan> PlanStream(const Context& context, int64_t tokens, int64_t k, int64_t tiles, bool normed) {
  if (!context.hopper || context.batch_invariant || tokens > kMaxTokens || k % 32 != 0) return std::nullopt;
  const StreamTuning& tuning = context.stream_tuning;
  const int fixed = kBarrierBytes + kSquareBytes + kSumBytes + (normed ? NormBytes(k) : 0);
  const auto plan = [&](int resident_tokens, int streamed_tokens, int chunk) {
    const int stage = StageBytes(chunk, streamed_tokens);
    const int held = fixed + static_cast<int>((k + chunk - 1) / chunk) * TokenBytes(chunk, resident_tokens);
    const int stages = std::min((tuning.shared_bytes - held) / stage, kMaxStages);
    return StreamPlan{
        .chunk = chunk, .stages = stages, .resident = streamed_tokens == 0, .shared_bytes = held + stages * stage};
  };
  // Tokens stay where they are used again and leave room.
  const bool again = tiles > context.multiprocessors * tuning.ctas_per_sm;
  const StreamPlan resident = plan(static_cast<int>(tokens), 0, tuning.chunk);
  if (again && resident.stages >= kMinStages) return resident;
  for (int chunk = tuning.chunk; chunk >= kMinChunk; chunk /= 2) {
    const StreamPlan streamed = plan(0, static_cast<int>(tokens), chunk);
    if (streamed.stages >= kMinStages) return streamed;
  }
  return std::nullopt;
}

}  // namespace berth::kernels::cuda::stream
