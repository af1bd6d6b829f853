#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Llama 1, 2 and 3, CodeLlama, Yi, SmolLM2 and Mistral differ in the values of the same fields.
absl::StatusOr<DecoderSpec> Parse(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(const bool mlp_bias, config.BoolOr("mlp_bias", false));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike("llama", config, {.qkv = attention_bias, .attention_out = attention_bias, .mlp = mlp_bias}));
  BERTH_RETURN_IF_ERROR(ApplySlidingWindow(config, 0, spec));
  return spec;
}

constexpr std::string_view kArchitectures[] = {"LlamaForCausalLM", "MistralForCausalLM"};

}  // namespace

extern const Family kLlama;
constexpr Family kLlama = {.name = "llama", .architectures = kArchitectures, .parse = Parse, .rules = LlamaNames};

}  // namespace berth::model::families
