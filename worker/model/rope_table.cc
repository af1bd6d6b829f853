#include "worker/model/rope_table.h"

#include <algorithm>
#include <bit>
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

// Where pair numbers begin and end to be blended: the pair that turns `turns` times within original_max_position.
double YarnPair(const RopeSpec& spec, double turns) {
  return spec.rotary_dim * std::log(spec.original_max_position / (turns * 2 * std::numbers::pi)) / (2 * std::log(spec.theta));
}

double ScaleYarn(const RopeSpec& spec, double pair, double frequency) {
  double first = YarnPair(spec, spec.high_frequency_factor), last = YarnPair(spec, spec.low_frequency_factor);
  if (spec.whole_pairs) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, spec.rotary_dim - 1.0);
  const double divided = std::clamp((pair - first) / std::max(last - first, 0.001), 0.0, 1.0);
  return divided * frequency / spec.factor + (1 - divided) * frequency;
}

double DynamicTheta(const RopeSpec& spec, int variant) {
  const double growth = spec.factor * std::exp2(variant) - (spec.factor - 1);
  return spec.theta * std::pow(growth, spec.rotary_dim / (spec.rotary_dim - 2.0));
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeSpec& spec, int variant) {
  const bool dynamic = spec.scaling == RopeScaling::kDynamic && variant > 0;
  const double theta = dynamic ? DynamicTheta(spec, variant) : spec.theta;
  std::vector<float> table(spec.rotary_dim / 2);
  for (size_t i = 0; i < table.size(); ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / spec.rotary_dim);
    switch (spec.scaling) {
      case RopeScaling::kNone:
      case RopeScaling::kDynamic:
        break;
      case RopeScaling::kLinear:
        frequency /= spec.factor;
        break;
      case RopeScaling::kLlama3:
        frequency = ScaleLlama3(spec, frequency);
        break;
      case RopeScaling::kYarn:
        frequency = ScaleYarn(spec, static_cast<double>(i), frequency);
        break;
      case RopeScaling::kLong:
        frequency /= variant > 0 ? spec.long_divisors[i] : spec.divisors[i];
        break;
    }
    table[i] = static_cast<float>(frequency);
  }
  return table;
}

std::vector<float> AlibiSlopes(const AttentionSpec& spec) {
  const int power = static_cast<int>(std::bit_floor(static_cast<unsigned>(spec.q_heads)));
  std::vector<float> slopes;
  for (int h = 0; h < spec.q_heads; ++h) {
    const double exponent = h < power ? 8.0 * (h + 1) / power : 4.0 * (2 * (h - power) + 1) / power;
    slopes.push_back(static_cast<float>(spec.alibi * std::exp2(-exponent)));
  }
  return slopes;
}

}  // namespace berth::model
