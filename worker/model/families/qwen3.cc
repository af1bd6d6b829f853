#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Qwen 3: norms of q and k over each head.
absl::StatusOr<DecoderSpec> ParseQwen3(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("attention_bias", false));
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "qwen3", .qkv_bias = bias, .out_bias = bias}));
  for (LayerSpec& layer : spec.layers) layer.attention.qk_norm = true;
  BERTH_RETURN_IF_ERROR(ApplyUpperLayersWindow(config, spec));
  return spec;
}

constexpr std::string_view kQwen3Architectures[] = {"Qwen3ForCausalLM"};

}  // namespace

extern const Family kQwen3;
constexpr Family kQwen3 = {.name = "qwen3", .architectures = kQwen3Architectures, .parse = ParseQwen3, .rules = LlamaNames};

}  // namespace berth::model::families
