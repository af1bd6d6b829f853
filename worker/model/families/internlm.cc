#include "base/status.h"
#include "worker/model/families/common.h"

namespace berth::model::families {
namespace {

// InternLM 1: llama with biases on q, k, v and the output of attention, or (20B) without.
absl::StatusOr<DecoderSpec> ParseInternLm(const HfConfig& config) {
  BERTH_ASSIGN_OR_RETURN(const bool bias, config.BoolOr("bias", true));
  return ParseLlamaLike(config, {.family = "internlm", .qkv_bias = bias, .out_bias = bias});
}

constexpr std::string_view kInternLmArchitectures[] = {"InternLMForCausalLM"};

}  // namespace

extern const Family kInternLm;
constexpr Family kInternLm = {
    .name = "internlm", .architectures = kInternLmArchitectures, .parse = ParseInternLm, .rules = LlamaNames};

}  // namespace berth::model::families
