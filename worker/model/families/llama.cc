#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr std::string_view kLlamaArchitectures[] = {"LlamaForCausalLM", "MistralForCausalLM"};

// Llama 1, 2 and 3, CodeLlama, Yi, SmolLM2 and Mistral differ in the values of the same fields; a window is Mistral's alone.
absl::StatusOr<DecoderSpec> ParseLlama(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool attention_bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(const bool mlp_bias, config.BoolOr("mlp_bias", false));
  BERTH_ASSIGN_OR_RETURN(
      DecoderSpec spec,
      ParseLlamaLike(config,
                     {.family = "llama", .qkv_bias = attention_bias, .out_bias = attention_bias, .mlp_bias = mlp_bias}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  if (architectures.front() == kLlamaArchitectures[1]) BERTH_RETURN_IF_ERROR(ApplySlidingWindow(config, 0, spec));
  return spec;
}

}  // namespace

extern const Family kLlama;
constexpr Family kLlama = {.name = "llama", .architectures = kLlamaArchitectures, .parse = ParseLlama, .rules = LlamaNames};

}  // namespace berth::model::families
