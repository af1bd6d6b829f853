#include "worker/loader/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/rope_table.h"

namespace berth::loader {
namespace {

// Of the divisors, which are stored as f32 and come from f32 arithmetic.
constexpr double kTolerance = 1e-3;
constexpr int64_t kMaxDivisors = 512;

bool Gives(const model::RopeSpec& scaled, const std::vector<float>& divisors) {
  model::RopeSpec plain = scaled;
  plain.scaling = model::RopeScaling::kNone;
  const std::vector<float> before = model::InverseFrequencies(plain);
  const std::vector<float> after = model::InverseFrequencies(scaled);
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double want = static_cast<double>(before[i]) / after[i];
    if (!(std::abs(divisors[i] - want) <= kTolerance * want)) return false;
  }
  return true;
}

}  // namespace

absl::Status TranslateRopeDivisors(const TensorInfo& divisors, model::HfConfig& config) {
  if (divisors.dtype != kernels::DType::kF32 || divisors.shape.size() != 1 || divisors.rows() < 1 ||
      divisors.rows() > kMaxDivisors) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", divisors.name, " has shape ", ShapeText(divisors.shape),
                                                   ", want f32 and one divisor for each pair of a head"));
  }
  std::vector<float> values(divisors.rows());
  std::memcpy(values.data(), divisors.data.data(), divisors.data.size());
  BERTH_ASSIGN_OR_RETURN(const double theta, config.FloatOr("rope_theta", 10000));
  const model::RopeSpec rope{.rotary_dim = static_cast<int>(2 * divisors.rows()),
                             .theta = theta,
                             .scaling = model::RopeScaling::kLlama3,
                             .factor = *std::max_element(values.begin(), values.end()),
                             .low_frequency_factor = 1,
                             .high_frequency_factor = 4,
                             .original_max_position = 8192};
  if (!(rope.factor > 0) || !(theta > 0) || !Gives(rope, values)) {
    return absl::UnimplementedError(absl::StrCat(
        "tensor ", divisors.name, " is not the llama3 scaling of 8192 positions by its largest divisor, ", rope.factor));
  }
  config.Set("rope_scaling.rope_type", std::string("llama3"));
  config.Set("rope_scaling.factor", rope.factor);
  config.Set("rope_scaling.low_freq_factor", rope.low_frequency_factor);
  config.Set("rope_scaling.high_freq_factor", rope.high_frequency_factor);
  config.Set("rope_scaling.original_max_position_embeddings", int64_t{rope.original_max_position});
  return absl::OkStatus();
}

}  // namespace berth::loader
