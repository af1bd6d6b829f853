#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {

void Admit(Context& context, const AdmitArgs& args) {
  const int64_t slots = args.slot_counts.dim(0), vocab = args.slot_counts.dim(1);
  context.pool.Run(static_cast<int>(args.slot.dim(0)), [&](int i, int) {
    const int32_t slot = args.slot.data<int32_t>()[i];
    BERTH_CHECK(slot >= 0 && slot < slots) << "slot " << slot << " of " << slots;
    std::memcpy(args.slot_params.data<uint8_t>() + slot * args.slot_params.stride(0),
                args.params.data<uint8_t>() + i * args.params.stride(0), sizeof(SlotSampling));
    uint32_t* counts = args.slot_counts.data<uint32_t>() + slot * args.slot_counts.stride(0);
    std::fill_n(counts, vocab, 0u);
    const int32_t* start = args.history_start.data<int32_t>() + i;
    for (int32_t t = start[0]; t < start[1]; ++t) {
      const int32_t token = args.history.data<int32_t>()[t];
      BERTH_CHECK(token >= 0 && token < vocab) << "token " << token << " of " << vocab;
      const bool in_prompt = t - start[0] < args.prompt_length.data<int32_t>()[i];
      counts[token] = in_prompt ? counts[token] | kTokenInPrompt : counts[token] + 1;
    }
  });
}

}  // namespace berth::kernels::cpu
