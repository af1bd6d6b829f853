#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

constexpr int64_t kBaichuan1Vocab = 64000;

// The 7B models rotate; the 13B models, whose configuration has no max_position_embeddings or says so, have ALiBi. Baichuan 2,
// which has the architecture's name from Baichuan-13B and another vocabulary, divides each row of its head by its length.
absl::StatusOr<DecoderSpec> ParseBaichuan(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> architectures, config.Strings("architectures"));
  const bool has_length = config.Has("max_position_embeddings");
  BERTH_ASSIGN_OR_RETURN(const bool alibi, config.BoolOr("alibi", !has_length));
  const FieldNames fields{.max_position = has_length ? "max_position_embeddings" : "model_max_length"};
  BERTH_ASSIGN_OR_RETURN(DecoderSpec spec, ParseLlamaLike(config, {.family = "baichuan", .fields = fields}));
  spec.normalized_head = architectures.front() == "BaichuanForCausalLM" && spec.vocab != kBaichuan1Vocab;
  for (LayerSpec& layer : spec.layers) {
    if (!alibi) continue;
    layer.attention.rope = {};
    layer.attention.alibi = 1;
  }
  return spec;
}

std::vector<WeightRule> BaichuanRules(const DecoderSpec& spec) {
  std::vector<WeightRule> rules = LlamaNames(spec);
  rules.push_back(Weight("model.layers.{}.self_attn.W_pack.weight", Slot::kQkv, kAllParts));
  return rules;
}

constexpr std::string_view kBaichuanArchitectures[] = {"BaiChuanForCausalLM", "BaichuanForCausalLM"};

}  // namespace

extern const Family kBaichuan;
constexpr Family kBaichuan = {
    .name = "baichuan", .architectures = kBaichuanArchitectures, .parse = ParseBaichuan, .rules = BaichuanRules};

}  // namespace berth::model::families
