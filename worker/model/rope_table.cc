#include "worker/model/rope_table.h"

#include <cmath>
#include <numbers>

namespace berth::model {
namespace {

double ScaleLlama3(const RopeSpec& spec, double frequency) {
  const double turns = spec.original_max_position * frequency / (2 * std::numbers::pi);
  if (turns < spec.low_frequency_factor) return frequency / spec.factor;
  if (turns > spec.high_frequency_factor) return frequency;
  const double kept = (turns - spec.low_frequency_factor) / (spec.high_frequency_factor - spec.low_frequency_factor);
  return (1 - kept) * frequency / spec.factor + kept * frequency;
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeSpec& spec) {
  std::vector<float> table(spec.rotary_dim / 2);
  for (size_t i = 0; i < table.size(); ++i) {
    double frequency = std::pow(spec.theta, -2.0 * static_cast<double>(i) / spec.rotary_dim);
    switch (spec.scaling) {
      case RopeScaling::kNone:
        break;
      case RopeScaling::kLinear:
        frequency /= spec.factor;
        break;
      case RopeScaling::kLlama3:
        frequency = ScaleLlama3(spec, frequency);
        break;
    }
    table[i] = static_cast<float>(frequency);
  }
  return table;
}

}  // namespace berth::model
