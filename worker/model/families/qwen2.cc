#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Qwen 1.5, 2 and 2.5: llama with biases on q, k and v. The window, where used, begins at layer max_window_layers.
absl::StatusOr<DecoderSpec> ParseQwen2(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "qwen2", .qkv_bias = true}));
  BERTH_RETURN_IF_ERROR(ApplyUpperLayersWindow(config, spec));
  return spec;
}

constexpr std::string_view kQwen2Architectures[] = {"Qwen2ForCausalLM"};

}  // namespace

extern const Family kQwen2;
constexpr Family kQwen2 = {.name = "qwen2", .architectures = kQwen2Architectures, .parse = ParseQwen2, .rules = LlamaNames};

}  // namespace berth::model::families
