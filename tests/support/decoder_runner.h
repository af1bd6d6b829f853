#pragma once

#include <cstdint>
#include <vector>

#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"
#include "worker/runtime/queued_executor.h"

namespace berth::testing {

// The logits at every position of one prompt on the CPU backend with an f32 cache, in steps of `step_tokens`; 0: one step.
// The rows at `image_positions`, which rise, are of images. A step's last row is computed with the others and again alone in
// the last layer, as an engine does that draws from it; its logits are those of the second time.
std::vector<std::vector<float>> PromptLogits(const model::DecoderSpec& spec, const model::DecoderWeights& weights,
                                             const std::vector<int32_t>& tokens, int step_tokens = 0,
                                             const std::vector<int>& image_positions = {});
// The same on a device with weights, activations and cache in `dtype`. Steps of one token are decode rows.
std::vector<std::vector<float>> PromptLogits(const model::DecoderSpec& spec, const model::DecoderWeights& weights,
                                             const std::vector<int32_t>& tokens, int step_tokens, runtime::RunnerDevice& device,
                                             kernels::DType dtype, const std::vector<int>& image_positions = {});

// The largest difference between two tables of equal shape; infinite when one has a NaN where the other has none.
double LargestDifference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b);

}  // namespace berth::testing
