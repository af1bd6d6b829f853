#pragma once

#include <vector>

#include "worker/model/decoder_spec.h"

namespace berth::model {

// The angle per position of each of the rotary_dim / 2 pairs: theta^(-2i / rotary_dim), then scaled. Linear (Chen et al. 2023)
// divides all by the factor. llama3 divides by the factor what turns less than low_frequency_factor times within
// original_max_position, keeps what turns more than high_frequency_factor times, and blends between. Computed in double.
std::vector<float> InverseFrequencies(const RopeSpec& spec);

}  // namespace berth::model
