#pragma once

#include <vector>

#include "worker/model/decoder_spec.h"

namespace berth::model {

// The angle per position of each of the rotary_dim / 2 pairs: theta^(-2i / rotary_dim), then scaled. Linear (Chen et al. 2023)
// divides all by the factor. llama3 divides by the factor what turns less than low_frequency_factor times within
// original_max_position, keeps what turns more than high_frequency_factor times, and blends between, linearly in the turns;
// yarn (Peng et al. 2023) does so linearly in the pair's number. kLong divides each by a divisor of its own; kDynamic
// multiplies theta by (factor l / L - factor + 1)^(d / (d - 2)) for prompts of up to l = 2^variant L tokens, L =
// original_max_position and d = rotary_dim. Computed in double.
std::vector<float> InverseFrequencies(const RopeSpec& spec, int variant = 0);

// Of each query head h, times `alibi`: 2^(-8 (h + 1) / n) for the first n, the largest power of two up to the number of heads;
// then 2^(-4 (2 i + 1) / n) for i = 0, 1, … (Press et al. 2022).
std::vector<float> AlibiSlopes(const AttentionSpec& spec);

}  // namespace berth::model
