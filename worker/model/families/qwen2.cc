#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// Qwen 1.5, 2 and 2.5: llama with biases on q, k and v. The window, where used, begins at layer max_window_layers.
absl::StatusOr<DecoderSpec> Parse(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike("qwen2", config, {.qkv = true}));
  BERTH_ASSIGN_OR_RETURN(const bool use_window, config.BoolOr("use_sliding_window", false));
  const int64_t layers = static_cast<int64_t>(spec.layers.size());
  int64_t first_layer = layers;
  if (use_window) {
    BERTH_ASSIGN_OR_RETURN(first_layer, config.Int("max_window_layers"));
    if (first_layer < 0 || first_layer > layers) {
      return config.Error("max_window_layers", absl::StrCat("want 0 to num_hidden_layers, ", layers));
    }
  }
  BERTH_RETURN_IF_ERROR(ApplySlidingWindow(config, static_cast<size_t>(first_layer), spec));
  return spec;
}

constexpr std::string_view kArchitectures[] = {"Qwen2ForCausalLM"};

}  // namespace

extern const Family kQwen2;
constexpr Family kQwen2 = {.name = "qwen2", .architectures = kArchitectures, .parse = Parse, .rules = LlamaNames};

}  // namespace berth::model::families
