
#include <cmath>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

namespace berth::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

HfConfig LlamaConfig() {
  HfConfig config;
  config.SetList("architectures", {std::string("LlamaForCausalLM")});
  config.Set("hidden_act", std::string("silu"));
  config.Set("hidden_size", int64_t{64});
  config.Set("intermediate_size", int64_t{96});
  config.Set("max_position_embeddings", int64_t{256});
  config.Set("num_attention_heads", int64_t{4});
  config.Set("num_hidden_layers", int64_t{3});
  config.Set("rms_norm_eps", 1e-5);
  config.Set("vocab_size", int64_t{288});
  return config;
}

HfConfig Qwen2Config() {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("Qwen2ForCausalLM")});
  return config;
}

absl::StatusOr<DecoderSpec> ParseSpec(const HfConfig& config) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  return (*family)->parse(config);
}

TEST(FamiliesTest, AbsentFieldsHaveTheValuesOfTheirConfigurationClass) {
  const DecoderSpec spec = ParseSpec(LlamaConfig()).value();
  EXPECT_EQ(spec.family, "llama");
  EXPECT_EQ(spec.layers.size(), 3u);
  EXPECT_FALSE(spec.tied_head);
  const AttentionSpec& attention = spec.layers[0].attention;
  EXPECT_EQ(attention.kv_heads, 4);
  EXPECT_EQ(attention.head_dim, 16);
  EXPECT_FLOAT_EQ(attention.scale, 0.25f);
  EXPECT_EQ(attention.window, 0);
  EXPECT_FALSE(attention.qkv_bias);
  EXPECT_EQ(attention.rope.rotary_dim, 16);
  EXPECT_EQ(attention.rope.theta, 10000);
  EXPECT_EQ(attention.rope.scaling, RopeScaling::kNone);
}

TEST(FamiliesTest, LlamaReadsBiasesHeadSizeAndTying) {
  HfConfig config = LlamaConfig();
  config.Set("attention_bias", true);
  config.Set("mlp_bias", true);
  config.Set("tie_word_embeddings", true);
  config.Set("head_dim", int64_t{32});
  config.Set("num_key_value_heads", int64_t{2});
  const DecoderSpec spec = ParseSpec(config).value();
  EXPECT_TRUE(spec.tied_head);
  EXPECT_TRUE(spec.layers[2].attention.qkv_bias);
  EXPECT_TRUE(spec.layers[2].attention.out_bias);
  EXPECT_TRUE(spec.layers[2].mlp.bias);
  EXPECT_EQ(spec.layers[2].attention.head_dim, 32);
  EXPECT_EQ(spec.layers[2].attention.kv_heads, 2);
}

TEST(FamiliesTest, MistralHasItsWindowOnEveryLayer) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("MistralForCausalLM")});
  config.Set("sliding_window", int64_t{24});
  const DecoderSpec spec = ParseSpec(config).value();
  for (const LayerSpec& layer : spec.layers) EXPECT_EQ(layer.attention.window, 24);
  config.Set("sliding_window", int64_t{-4});
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("sliding_window is -4"));
  config.SetList("architectures", {std::string("LlamaForCausalLM")});
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.window, 0) << "Llama's class has none";
}

TEST(FamiliesTest, Qwen2HasItsWindowOnlyWhereUsed) {
  HfConfig config = Qwen2Config();
  config.Set("sliding_window", int64_t{24});
  config.Set("max_window_layers", int64_t{1});
  DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.layers[2].attention.window, 0) << "use_sliding_window is absent";
  EXPECT_TRUE(spec.layers[0].attention.qkv_bias);
  EXPECT_FALSE(spec.layers[0].attention.out_bias);

  config.Set("use_sliding_window", true);
  spec = ParseSpec(config).value();
  EXPECT_EQ(spec.layers[0].attention.window, 0);
  EXPECT_EQ(spec.layers[1].attention.window, 24);
}

TEST(FamiliesTest, LayerTypesMustSayWhatTheWindowSays) {
  const std::vector<HfConfig::Scalar> types = {std::string("full_attention"), std::string("sliding_attention"),
                                               std::string("sliding_attention")};
  HfConfig config = Qwen2Config();
  config.SetList("layer_types", types);
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("want full_attention for layer 1"));
  config.Set("use_sliding_window", true);
  config.Set("sliding_window", int64_t{24});
  config.Set("max_window_layers", int64_t{1});
  EXPECT_TRUE(ParseSpec(config).ok()) << ParseSpec(config).status();
  config.SetList("layer_types", {types[0]});
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("layer_types is [\"full_attention\"]: want 3"));
  config.Set("max_window_layers", int64_t{4});
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("max_window_layers is 4"));
}

TEST(FamiliesTest, RopeScalingReadsOldAndNewSpelling) {
  HfConfig old_spelling = LlamaConfig();
  old_spelling.Set("rope_theta", 500000.0);
  old_spelling.Set("rope_scaling.type", std::string("linear"));
  old_spelling.Set("rope_scaling.factor", int64_t{4});
  HfConfig new_spelling = LlamaConfig();
  new_spelling.Set("rope_parameters.rope_theta", 500000.0);
  new_spelling.Set("rope_parameters.rope_type", std::string("linear"));
  new_spelling.Set("rope_parameters.factor", 4.0);
  for (const HfConfig& config : {old_spelling, new_spelling}) {
    const RopeSpec rope = ParseSpec(config)->layers[0].attention.rope;
    EXPECT_EQ(rope.theta, 500000);
    EXPECT_EQ(rope.scaling, RopeScaling::kLinear);
    EXPECT_EQ(rope.factor, 4);
  }
}

TEST(FamiliesTest, RopeParametersTakeThetaFromBesideThem) {
  HfConfig config = LlamaConfig();
  config.Set("rope_theta", 123456.0);
  config.Set("rope_parameters.rope_type", std::string("default"));
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.theta, 123456);
  config.Set("rope_parameters.rope_theta", 500000.0);
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.theta, 500000);
}

TEST(FamiliesTest, BothSpellingsOfRopeMustMeanTheSame) {
  HfConfig config = LlamaConfig();
  config.Set("rope_theta", 500000.0);
  config.Set("rope_parameters.rope_theta", 500000.0);
  config.Set("rope_parameters.rope_type", std::string("default"));
  for (const char* object : {"rope_scaling", "rope_parameters"}) {
    EXPECT_EQ(ParseSpec(config).ok(), object == std::string_view("rope_scaling"));
    config.Set(std::string(object) + ".rope_type", std::string("yarn"));
    config.Set(std::string(object) + ".factor", 4.0);
    config.Set(std::string(object) + ".original_max_position_embeddings", int64_t{256});
  }
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.scaling, RopeScaling::kYarn);
  config.Set("rope_parameters.rope_theta", 10000.0);
  EXPECT_THAT(std::string(ParseSpec(config).status().message()),
              HasSubstr("rope_scaling.rope_type is \"yarn\": want what rope_parameters says"));
}

// Every value that no family computes is an error that names the field and the value.
struct BadValue {
  const char* field;
  HfConfig::Scalar value;
  const char* text;  // how the message shows the value
};

TEST(FamiliesTest, UnknownValuesAreErrors) {
  const BadValue cases[] = {
      {"hidden_act", std::string("foo"), "\"foo\""},
      {"rope_scaling.type", std::string("bar"), "\"bar\""},
      {"rope_scaling.rope_type", std::string("foo"), "\"foo\""},
      {"rope_theta", -1.0, "-1"},
      {"hidden_size", int64_t{0}, "0"},
      {"hidden_size", int64_t{1} << 40, "1099511627776"},
      {"num_attention_heads", int64_t{7}, "7"},
      {"num_key_value_heads", int64_t{3}, "3"},
      {"num_hidden_layers", int64_t{1000000}, "1000000"},
      {"head_dim", int64_t{15}, "15"},
      {"rms_norm_eps", 0.0, "0"},
      {"partial_rotary_factor", 0.5, "0.5"},
      {"quantization_config.quant_method", std::string("gptq"), "\"gptq\""},
      {"tie_word_embeddings", std::string("yes"), "\"yes\""},
      {"vocab_size", 3.5, "3.5"},
  };
  for (const BadValue& bad : cases) {
    HfConfig config = LlamaConfig();
    config.Set(bad.field, bad.value);
    const absl::StatusOr<DecoderSpec> spec = ParseSpec(config);
    ASSERT_FALSE(spec.ok()) << bad.field << " " << bad.text;
    EXPECT_THAT(std::string(spec.status().message()), AllOf(HasSubstr(bad.field), HasSubstr(bad.text)));
  }
}

// Larger than any integer.
TEST(FamiliesTest, HugeFactorsAreRefusedOrCut) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("Phi3ForCausalLM")});
  EXPECT_TRUE(ParseSpec(config).ok());
  for (const double share : {1e300, -1e300, 1.5}) {
    config.Set("partial_rotary_factor", share);
    EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("partial_rotary_factor is "));
  }
  HfConfig yarn = LlamaConfig();
  yarn.Set("rope_scaling.rope_type", std::string("yarn"));
  yarn.Set("rope_scaling.factor", 1e300);
  yarn.Set("rope_scaling.original_max_position_embeddings", int64_t{128});
  EXPECT_GT(ParseSpec(yarn)->max_position, 1 << 20);
}

TEST(FamiliesTest, InternLmHasThetaAndScalingInFieldsOfItsOwn) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("InternLMForCausalLM")});
  config.Set("rotary.base", int64_t{20000});
  config.Set("rotary.type", std::string("origin"));
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.theta, 20000);
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.scaling, RopeScaling::kNone);
  config.Set("rotary.type", std::string("dynamic"));
  EXPECT_EQ(ParseSpec(config)->max_position, 256) << "a factor of 1";
  config.Set("rotary.scaling_factor", 2.0);
  EXPECT_EQ(ParseSpec(config)->max_position, 512);
  EXPECT_EQ(ParseSpec(config)->layers[0].attention.rope.factor, 2);
  config.Set("rotary.type", std::string("linear"));
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("rotary.type is \"linear\""));
}

TEST(FamiliesTest, IncompleteRopeScalingIsAnError) {
  HfConfig config = LlamaConfig();
  config.Set("rope_scaling.rope_type", std::string("llama3"));
  config.Set("rope_scaling.factor", 8.0);
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("rope_scaling.low_freq_factor is absent"));
  config = LlamaConfig();
  config.Set("rope_scaling.factor", 8.0);
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("rope_scaling.type is absent"));
}

TEST(FamiliesTest, YarnAndLongRopeReachTheirLengths) {
  HfConfig yarn = LlamaConfig();
  yarn.Set("rope_scaling.rope_type", std::string("yarn"));
  yarn.Set("rope_scaling.factor", 4.0);
  yarn.Set("rope_scaling.original_max_position_embeddings", int64_t{128});
  DecoderSpec spec = ParseSpec(yarn).value();
  EXPECT_EQ(spec.max_position, 512);
  EXPECT_FLOAT_EQ(spec.layers[0].attention.rope.attention_scale, static_cast<float>(0.1 * std::log(4) + 1));

  HfConfig longer = LlamaConfig();
  longer.Set("rope_scaling.type", std::string("longrope"));
  longer.Set("original_max_position_embeddings", int64_t{64});
  longer.SetList("rope_scaling.short_factor", std::vector<HfConfig::Scalar>(8, 1.5));
  EXPECT_THAT(std::string(ParseSpec(longer).status().message()), HasSubstr("long_factor is absent: want 8"));
  longer.SetList("rope_scaling.long_factor", std::vector<HfConfig::Scalar>(8, 4.5));
  spec = ParseSpec(longer).value();
  EXPECT_EQ(spec.max_position, 256);
  EXPECT_THAT(spec.rope_lengths, ::testing::ElementsAre(64));
  EXPECT_FLOAT_EQ(spec.layers[0].attention.rope.attention_scale, std::sqrt(1 + std::log(4.f) / std::log(64.f)));
  longer.SetList("rope_scaling.short_factor", std::vector<HfConfig::Scalar>(7, 1.5));
  EXPECT_THAT(std::string(ParseSpec(longer).status().message()), AllOf(HasSubstr("short_factor"), HasSubstr("want 8")));
}

HfConfig GemmaConfig(const char* architecture) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string(architecture)});
  config.Set("hidden_activation", std::string("gelu_pytorch_tanh"));
  config.Set("sliding_window", int64_t{24});
  return config;
}

TEST(FamiliesTest, Gemma2CapsUnlessItsConfigurationSaysNull) {
  const HfConfig config = GemmaConfig("Gemma2ForCausalLM");
  DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.logit_softcap, 30);
  EXPECT_EQ(spec.layers[0].attention.softcap, 50);
  const std::string nulls = R"({"final_logit_softcapping": null, "attn_logit_softcapping": null, )";
  spec = ParseSpec(HfConfig::Parse(nulls + config.ToJson().substr(1)).value()).value();
  EXPECT_EQ(spec.logit_softcap, 0);
  EXPECT_EQ(spec.layers[0].attention.softcap, 0);
}

TEST(FamiliesTest, GemmaTakesItsWindowsFromLayerTypes) {
  for (const char* architecture : {"Gemma2ForCausalLM", "Gemma3ForCausalLM"}) {
    HfConfig config = GemmaConfig(architecture);
    config.SetList("layer_types",
                   {std::string("full_attention"), std::string("full_attention"), std::string("sliding_attention")});
    const DecoderSpec spec = ParseSpec(config).value();
    EXPECT_EQ(spec.layers[0].attention.window, 0);
    EXPECT_EQ(spec.layers[2].attention.window, 24);
    config.SetList("layer_types", {std::string("full_attention")});
    EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("layer_types is [\"full_attention\"]: want 3"));
    config.SetList("layer_types", std::vector<HfConfig::Scalar>(3, std::string("chunked_attention")));
    EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("want full_attention for layer 0"));
  }
}

TEST(FamiliesTest, Gemma3ReadsOldAndNewSpelling) {
  HfConfig old_spelling = GemmaConfig("Gemma3ForCausalLM");
  old_spelling.Set("rope_theta", 500000.0);
  old_spelling.Set("rope_local_base_freq", 20000.0);
  old_spelling.Set("rope_scaling.rope_type", std::string("linear"));
  old_spelling.Set("rope_scaling.factor", 8.0);
  old_spelling.Set("sliding_window_pattern", int64_t{2});
  HfConfig new_spelling = GemmaConfig("Gemma3ForCausalLM");
  new_spelling.Set("rope_parameters.full_attention.rope_theta", 500000.0);
  new_spelling.Set("rope_parameters.full_attention.rope_type", std::string("linear"));
  new_spelling.Set("rope_parameters.full_attention.factor", 8.0);
  new_spelling.Set("rope_parameters.sliding_attention.rope_theta", 20000.0);
  new_spelling.Set("rope_parameters.sliding_attention.rope_type", std::string("default"));
  new_spelling.SetList("layer_types",
                       {std::string("sliding_attention"), std::string("full_attention"), std::string("sliding_attention")});
  for (const HfConfig& config : {old_spelling, new_spelling}) {
    const absl::StatusOr<DecoderSpec> spec = ParseSpec(config);
    ASSERT_TRUE(spec.ok()) << spec.status();
    for (size_t i = 0; i < 3; ++i) {
      const AttentionSpec& attention = spec->layers[i].attention;
      EXPECT_EQ(attention.window, i == 1 ? 0 : 24);
      EXPECT_EQ(attention.rope.theta, i == 1 ? 500000 : 20000);
      EXPECT_EQ(attention.rope.factor, i == 1 ? 8 : 1);
      EXPECT_EQ(attention.rope.scaling, i == 1 ? RopeScaling::kLinear : RopeScaling::kNone);
    }
  }
}

TEST(FamiliesTest, Gemma3HasTheDefaultsOfItsClass) {
  HfConfig config = GemmaConfig("Gemma3ForCausalLM");
  config.Set("sliding_window_pattern", int64_t{2});
  DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.layers[1].attention.rope.theta, 1000000);
  EXPECT_EQ(spec.layers[0].attention.rope.theta, 10000);
  EXPECT_EQ(spec.logit_softcap, 0);
  config.Set("final_logit_softcapping", 30.0);
  EXPECT_EQ(ParseSpec(config)->logit_softcap, 30);
}

TEST(FamiliesTest, WhatGemma3DoesNotComputeIsAnError) {
  const BadValue cases[] = {{"attn_logit_softcapping", 50.0, "50"},
                            {"use_bidirectional_attention", true, "true"},
                            {"rope_parameters.sliding_attention.rope_type", std::string("linear"), "\"linear\""}};
  for (const BadValue& bad : cases) {
    HfConfig config = GemmaConfig("Gemma3ForCausalLM");
    config.Set(bad.field, bad.value);
    EXPECT_THAT(std::string(ParseSpec(config).status().message()), AllOf(HasSubstr(bad.field), HasSubstr(bad.text)));
  }
}

TEST(FamiliesTest, FalconReadsItsActivation) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("FalconForCausalLM")});
  config.Set("layer_norm_epsilon", 1e-5);
  EXPECT_EQ(ParseSpec(config)->layers[0].mlp.activation, kernels::Activation::kGelu);
  config.Set("activation", std::string("relu"));
  EXPECT_EQ(ParseSpec(config)->layers[0].mlp.activation, kernels::Activation::kRelu);
  config.Set("activation", std::string("foo"));
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("activation is \"foo\""));
}

HfConfig DeepSeekConfig(const char* architecture) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string(architecture)});
  const std::pair<const char*, int64_t> fields[] = {
      {"kv_lora_rank", 32},    {"qk_nope_head_dim", 20},   {"qk_rope_head_dim", 8}, {"v_head_dim", 12},
      {"n_routed_experts", 8}, {"num_experts_per_tok", 3}, {"n_shared_experts", 2}, {"moe_intermediate_size", 48},
      {"n_group", 4},          {"topk_group", 2},          {"q_lora_rank", 24}};
  for (const auto& [name, value] : fields) config.Set(name, value);
  return config;
}

TEST(FamiliesTest, LatentAttentionKeepsOneRowOfRankAndRotaryDimensions) {
  HfConfig config = DeepSeekConfig("DeepseekV2ForCausalLM");
  config.Set("first_k_dense_replace", int64_t{1});
  config.Set("rope_scaling.type", std::string("yarn"));
  config.Set("rope_scaling.factor", 40.0);
  config.Set("rope_scaling.original_max_position_embeddings", int64_t{16});
  config.Set("rope_scaling.mscale", 0.707);
  config.Set("rope_scaling.mscale_all_dim", 0.707);
  const DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.max_position, 640);
  const AttentionSpec& attention = spec.layers[0].attention;
  EXPECT_EQ(attention.kv_elements(), 32 + 8);
  EXPECT_EQ(attention.rope.rotary_dim, 8);
  EXPECT_FLOAT_EQ(attention.rope.attention_scale, 1);
  const double magnitude = 0.0707 * std::log(40) + 1;
  EXPECT_FLOAT_EQ(attention.scale, magnitude * magnitude / std::sqrt(28.0));
  EXPECT_EQ(spec.layers[0].moe.routing.experts, 0) << "the first layer is dense";
  EXPECT_EQ(spec.layers[1].moe.routing.groups, 1) << "greedy, as topk_method is absent";
  EXPECT_EQ(spec.layers[1].mlp.intermediate, 2 * 48);
}

TEST(FamiliesTest, DeepSeek3IsKnownAndItsFp8BlocksAreRefused) {
  HfConfig config = DeepSeekConfig("DeepseekV3ForCausalLM");
  config.Set("num_hidden_layers", int64_t{4});
  const DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.layers[2].moe.routing.experts, 0) << "the class's first_k_dense_replace is 3";
  EXPECT_TRUE(spec.layers[3].moe.router_bias);
  EXPECT_EQ(spec.layers[3].moe.routing.group_best, 2);
  EXPECT_EQ(spec.layers[3].moe.routing.scale, 2.5f);
  config.Set("quantization_config.quant_method", std::string("fp8"));
  config.Set("quantization_config.fmt", std::string("e4m3"));
  const absl::Status status = ParseSpec(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("quantization_config.quant_method is \"fp8\""));
}

TEST(FamiliesTest, RoutingThatNothingComputesIsAnError) {
  const BadValue cases[] = {{"topk_method", std::string("noaux_tc"), "\"noaux_tc\""},
                            {"scoring_func", std::string("sigmoid"), "\"sigmoid\""},
                            {"norm_topk_prob", true, "true"},
                            {"attention_bias", true, "true"},
                            {"rope_interleave", false, "false"},
                            {"kv_lora_rank", int64_t{0}, "0"},
                            {"num_nextn_predict_layers", int64_t{-1}, "-1"},
                            {"q_lora_rank", std::string("many"), "\"many\""}};
  for (const BadValue& bad : cases) {
    HfConfig config = DeepSeekConfig("DeepseekV2ForCausalLM");
    config.Set(bad.field, bad.value);
    EXPECT_THAT(std::string(ParseSpec(config).status().message()), AllOf(HasSubstr(bad.field), HasSubstr(bad.text)));
  }
  HfConfig grouped = DeepSeekConfig("DeepseekV2ForCausalLM");
  grouped.Set("topk_method", std::string("group_limited_greedy"));
  grouped.Set("topk_group", int64_t{1});
  EXPECT_THAT(std::string(ParseSpec(grouped).status().message()), HasSubstr("topk_group is 1: want room for"));
  grouped.Set("n_group", int64_t{3});
  EXPECT_THAT(std::string(ParseSpec(grouped).status().message()), HasSubstr("n_group is 3: want a divisor"));
}

TEST(FamiliesTest, DbrxNamesItsActivation) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("DbrxForCausalLM")});
  for (const auto& [name, value] : {std::pair("d_model", 64),
                                    {"n_layers", 1},
                                    {"n_heads", 4},
                                    {"max_seq_len", 256},
                                    {"attn_config.kv_n_heads", 2},
                                    {"ffn_config.ffn_hidden_size", 48},
                                    {"ffn_config.moe_num_experts", 4},
                                    {"ffn_config.moe_top_k", 2}}) {
    config.Set(name, int64_t{value});
  }
  config.Set("attn_config.rope_theta", 1e4);
  config.Set("attn_config.clip_qkv", 8.0);
  ASSERT_TRUE(ParseSpec(config).ok()) << ParseSpec(config).status();
  EXPECT_EQ(ParseSpec(config)->layers[0].moe.activation, kernels::Activation::kSilu);
  config.Set("ffn_config.ffn_act_fn.name", std::string("gelu"));
  EXPECT_EQ(ParseSpec(config)->layers[0].moe.activation, kernels::Activation::kGelu);
  config.Set("ffn_config.ffn_act_fn.name", std::string("mish"));
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("ffn_config.ffn_act_fn.name is \"mish\""));
}

TEST(FamiliesTest, DynamicNtkHasAVariantForEveryDoubling) {
  HfConfig config = LlamaConfig();
  config.Set("rope_scaling.type", std::string("dynamic"));
  config.Set("rope_scaling.factor", 6.0);
  const DecoderSpec spec = ParseSpec(config).value();
  EXPECT_EQ(spec.max_position, 6 * 256);
  EXPECT_THAT(spec.rope_lengths, ::testing::ElementsAre(256, 512, 1024));
  config.Set("rope_scaling.factor", 1e9);
  EXPECT_THAT(std::string(ParseSpec(config).status().message()), HasSubstr("rope_scaling.factor is 1e+09: want at most 64"));
}

TEST(FamiliesTest, UnknownArchitectureIsNamed) {
  HfConfig config = LlamaConfig();
  config.SetList("architectures", {std::string("FooForCausalLM")});
  const absl::Status status = FindFamily(config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("FooForCausalLM"), HasSubstr("InternLM2ForCausalLM")));
  EXPECT_FALSE(FindFamily(HfConfig()).ok());
}

TEST(FamiliesTest, NoArchitectureBelongsToTwoFamilies) {
  std::vector<std::string_view> seen;
  for (const Family* family : Families()) seen.insert(seen.end(), family->architectures.begin(), family->architectures.end());
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

}  // namespace
}  // namespace berth::model
