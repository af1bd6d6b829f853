#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr int kMaxDynamicFactor = 64;
constexpr std::string_view kOldScaling = "rope_scaling";

int Scaled(int length, double factor) { return static_cast<int>(std::min<double>(length * factor, kMaxDimension)); }

// transformers 5 keeps theta and scaling together in rope_parameters; before, they were rope_theta and rope_scaling, whose type
// was first called "type", then "rope_type". `object` is the one of the two that is read.
std::string RopeField(std::string_view object, std::string_view name) { return std::string(object).append(".").append(name); }

std::string RopeTypeField(const HfConfig& config, std::string_view object) {
  std::string field = RopeField(object, "rope_type");
  return config.Has(field) ? field : RopeField(object, "type");
}

// The length that the model was first trained for; it may stand beside the scaling.
absl::Status ParseOriginalLength(const HfConfig& config, std::string_view object, RopeSpec& rope) {
  const std::string field = RopeField(object, "original_max_position_embeddings");
  BERTH_ASSIGN_OR_RETURN(rope.original_max_position,
                         Dimension(config, config.Has("original_max_position_embeddings") && !config.Has(field)
                                               ? "original_max_position_embeddings"
                                               : std::string_view(field)));
  return absl::OkStatus();
}

absl::Status ParseLlama3(const HfConfig& config, std::string_view object, RopeSpec& rope) {
  const std::string high = RopeField(object, "high_freq_factor");
  BERTH_ASSIGN_OR_RETURN(rope.low_frequency_factor, PositiveFloat(config, RopeField(object, "low_freq_factor")));
  BERTH_ASSIGN_OR_RETURN(rope.high_frequency_factor, PositiveFloat(config, high));
  if (rope.high_frequency_factor <= rope.low_frequency_factor) return config.Error(high, "want more than low_freq_factor");
  return ParseOriginalLength(config, object, rope);
}

// 1 where there is no such field.
double MagnitudeScale(double factor, double weight) { return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1; }

absl::Status ParseYarn(const HfConfig& config, std::string_view object, RopeSpec& rope) {
  BERTH_ASSIGN_OR_RETURN(rope.high_frequency_factor, PositiveFloatOr(config, RopeField(object, "beta_fast"), 32));
  BERTH_ASSIGN_OR_RETURN(rope.low_frequency_factor, PositiveFloatOr(config, RopeField(object, "beta_slow"), 1));
  BERTH_ASSIGN_OR_RETURN(rope.whole_pairs, config.BoolOr(RopeField(object, "truncate"), true));
  BERTH_ASSIGN_OR_RETURN(const double weight, config.FloatOr(RopeField(object, "mscale"), 0));
  BERTH_ASSIGN_OR_RETURN(const double all_weight, config.FloatOr(RopeField(object, "mscale_all_dim"), 0));
  double scale = MagnitudeScale(rope.factor, 1);
  if (weight != 0 && all_weight != 0) scale = MagnitudeScale(rope.factor, weight) / MagnitudeScale(rope.factor, all_weight);
  BERTH_ASSIGN_OR_RETURN(rope.attention_scale, PositiveFloatOr(config, RopeField(object, "attention_factor"), scale));
  return ParseOriginalLength(config, object, rope);
}

absl::StatusOr<std::vector<double>> ParseDivisors(const HfConfig& config, const std::string& field, int rotary_dim) {
  BERTH_ASSIGN_OR_RETURN(std::vector<double> divisors, config.Floats(field));
  if (divisors.size() * 2 != static_cast<size_t>(rotary_dim)) {
    return config.Error(field, absl::StrCat("want ", rotary_dim / 2, " of them"));
  }
  for (const double divisor : divisors) {
    if (!(divisor > 0)) return config.Error(field, "want positive numbers");
  }
  return divisors;
}

// Short divisors up to the original length, long ones beyond; the attention scale is that of the whole length.
absl::Status ParseLong(const HfConfig& config, std::string_view object, int max_position, RopeSpec& rope) {
  BERTH_RETURN_IF_ERROR(ParseOriginalLength(config, object, rope));
  BERTH_ASSIGN_OR_RETURN(rope.divisors, ParseDivisors(config, RopeField(object, "short_factor"), rope.rotary_dim));
  BERTH_ASSIGN_OR_RETURN(rope.long_divisors, ParseDivisors(config, RopeField(object, "long_factor"), rope.rotary_dim));
  const double factor = static_cast<double>(max_position) / rope.original_max_position;
  const double scale = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(rope.original_max_position));
  BERTH_ASSIGN_OR_RETURN(rope.attention_scale, PositiveFloatOr(config, RopeField(object, "attention_factor"), scale));
  return absl::OkStatus();
}

absl::Status ParseScaling(const HfConfig& config, std::string_view object, DecoderSpec& spec, RopeSpec& rope) {
  if (!config.Has(object)) return absl::OkStatus();
  const std::string field = RopeTypeField(config, object);
  BERTH_ASSIGN_OR_RETURN(const std::string type, config.String(field));
  if (type == "default" || type == "none") return absl::OkStatus();
  if (type == "longrope" || type == "su") {
    rope.scaling = RopeScaling::kLong;
    BERTH_RETURN_IF_ERROR(ParseLong(config, object, spec.max_position, rope));
    if (rope.original_max_position < spec.max_position) spec.rope_lengths = {rope.original_max_position};
    return absl::OkStatus();
  }
  if (type != "linear" && type != "llama3" && type != "dynamic" && type != "yarn") {
    return config.Error(field, "want default, linear, dynamic, llama3, yarn or longrope");
  }
  const std::string factor = RopeField(object, "factor");
  BERTH_ASSIGN_OR_RETURN(rope.factor, PositiveFloat(config, factor));
  if (type == "dynamic") return ParseDynamicRope(config, factor, spec, rope);
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
  } else if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    return ParseLlama3(config, object, rope);
  } else {
    rope.scaling = RopeScaling::kYarn;
    BERTH_RETURN_IF_ERROR(ParseYarn(config, object, rope));
    spec.max_position = std::max(spec.max_position, Scaled(rope.original_max_position, rope.factor));
  }
  return absl::OkStatus();
}

absl::StatusOr<RopeSpec> ParseRopeOf(const HfConfig& config, std::string_view object, const LlamaLike& family,
                                     DecoderSpec& spec) {
  RopeSpec rope;
  const std::string own_theta = RopeField(object, "rope_theta"), own_share = RopeField(object, "partial_rotary_factor");
  const std::string_view theta = config.Has(own_theta) ? std::string_view(own_theta) : family.fields.theta;
  BERTH_ASSIGN_OR_RETURN(rope.theta, PositiveFloatOr(config, theta, family.theta));
  const std::string_view share_field = config.Has(own_share) ? std::string_view(own_share) : "partial_rotary_factor";
  BERTH_ASSIGN_OR_RETURN(const double share, config.FloatOr(share_field, family.rotary_share));
  if (!family.partial_rotary && share != 1) return config.Error(share_field, "want 1", absl::StatusCode::kUnimplemented);
  const int head_dim = spec.layers[0].attention.head_dim;
  if (share > 0 && share <= 1) rope.rotary_dim = static_cast<int>(head_dim * share);
  if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0) {
    return config.Error(share_field, absl::StrCat("want an even part of head_dim, ", head_dim));
  }
  BERTH_RETURN_IF_ERROR(ParseScaling(config, object, spec, rope));
  return rope;
}

}  // namespace

void SetDynamicRope(double factor, int reach, DecoderSpec& spec, RopeSpec& rope) {
  rope.scaling = RopeScaling::kDynamic;
  rope.factor = factor;
  rope.original_max_position = spec.max_position;
  for (int64_t length = spec.max_position; length < reach; length *= 2) spec.rope_lengths.push_back(static_cast<int>(length));
  spec.max_position = std::max(spec.max_position, reach);
}

absl::Status ParseDynamicRope(const HfConfig& config, std::string_view field, DecoderSpec& spec, RopeSpec& rope) {
  BERTH_ASSIGN_OR_RETURN(const double factor, PositiveFloatOr(config, field, 1));
  if (factor > kMaxDynamicFactor) return config.Error(field, absl::StrCat("want at most ", kMaxDynamicFactor));
  SetDynamicRope(factor, Scaled(spec.max_position, factor), spec, rope);
  return absl::OkStatus();
}

absl::StatusOr<double> YarnMagnitude(const HfConfig& config, const RopeSpec& rope) {
  if (rope.scaling != RopeScaling::kYarn) return 1;
  const std::string_view object = config.Has("rope_parameters") ? "rope_parameters" : kOldScaling;
  BERTH_ASSIGN_OR_RETURN(const double weight, config.FloatOr(RopeField(object, "mscale_all_dim"), 0));
  return MagnitudeScale(rope.factor, weight);
}

absl::Status ParseRope(const HfConfig& config, const LlamaLike& family, DecoderSpec& spec) {
  DecoderSpec old_spec = spec;
  const std::string_view parameters = family.fields.rope_parameters;
  BERTH_ASSIGN_OR_RETURN(const RopeSpec rope,
                         ParseRopeOf(config, config.Has(parameters) ? parameters : kOldScaling, family, spec));
  if (config.Has(parameters) && config.Has(kOldScaling)) {
    BERTH_ASSIGN_OR_RETURN(const RopeSpec old_rope, ParseRopeOf(config, kOldScaling, family, old_spec));
    // Of different ones transformers 4 and 5 take one each.
    if (rope != old_rope) {
      return config.Error(RopeTypeField(config, kOldScaling), "want what " + std::string(parameters) + " says, theta included");
    }
  }
  for (LayerSpec& layer : spec.layers) layer.attention.rope = rope;
  return absl::OkStatus();
}

}  // namespace berth::model::families
