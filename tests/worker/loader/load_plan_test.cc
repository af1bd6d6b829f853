#include "worker/loader/load_plan.h"

#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/files.h"
#include "tests/support/tiny_models.h"
#include "worker/model/hf_config.h"

namespace berth::loader {
namespace {

using model::Slot;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kTiny[] = "tests/golden/models/tiny/";
constexpr char kReal[] = "tests/golden/models/checkpoints/";

// A configuration and the list of its checkpoint's tensors.
struct Case {
  explicit Case(const std::string& folder) : index(berth::testing::ReadTensorList(folder + "/tensors.txt")) {
    const model::HfConfig config = model::HfConfig::Parse(berth::testing::ReadFile(folder + "/config.json")).value();
    const model::Family* family = model::FindFamily(config).value();
    spec = family->parse(config).value();
    rules = family->rules(spec);
  }
  absl::StatusOr<LoadPlan> Plan(const Shard& shard = {}) const { return BuildPlan(spec, rules, index, shard); }
  std::string Error() const {
    const absl::StatusOr<LoadPlan> plan = Plan();
    return plan.ok() ? "no error" : std::string(plan.status().message());
  }
  TensorInfo& Tensor(const std::string& name) {
    return *std::find_if(index.begin(), index.end(), [&](const TensorInfo& tensor) { return tensor.name == name; });
  }
  void Remove(const std::string& name) { index.erase(index.begin() + (&Tensor(name) - index.data())); }

  model::DecoderSpec spec;
  std::vector<model::WeightRule> rules;
  CheckpointIndex index;
};

struct RealCheckpoint {
  const char* name;
  const char* family;
  int layers;
  int window;
  bool tied;
  size_t ignored;  // tensors that no step reads
};

class RealCheckpointTest : public ::testing::TestWithParam<RealCheckpoint> {};

TEST_P(RealCheckpointTest, IsCovered) {
  const Case real(kReal + std::string(GetParam().name));
  EXPECT_EQ(real.spec.family, GetParam().family);
  EXPECT_EQ(real.spec.layers.size(), static_cast<size_t>(GetParam().layers));
  EXPECT_EQ(real.spec.layers.front().attention.window, GetParam().window);
  const absl::StatusOr<LoadPlan> plan = real.Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->steps.size() + GetParam().ignored, real.index.size());
  EXPECT_EQ(plan->aliases.size(), GetParam().tied ? 1u : 0u);
}

TEST_P(RealCheckpointTest, IsCoveredByTwoAndFourRanksThatDivideItsHeads) {
  const Case real(kReal + std::string(GetParam().name));
  for (const int size : {2, 4}) {
    const bool divides = real.spec.layers[0].attention.q_heads % size == 0;
    for (int rank = 0; rank < size; ++rank) {
      const absl::Status status = real.Plan({rank, size}).status();
      if (divides) {
        EXPECT_TRUE(status.ok()) << status;
      } else {  // such a model runs on fewer
        EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(size) + " ranks cannot divide"));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, RealCheckpointTest,
    ::testing::Values(
        RealCheckpoint{"llama-7b", "llama", 32, 0, false, 0}, RealCheckpoint{"llama-2-7b", "llama", 32, 0, false, 32},
        RealCheckpoint{"llama-2-70b", "llama", 80, 0, false, 0}, RealCheckpoint{"llama-3-8b", "llama", 32, 0, false, 0},
        RealCheckpoint{"llama-3.2-1b", "llama", 16, 0, true, 0}, RealCheckpoint{"codellama-7b", "llama", 32, 0, false, 0},
        RealCheckpoint{"yi-6b", "llama", 32, 0, false, 0}, RealCheckpoint{"mistral-7b", "llama", 32, 4096, false, 0},
        RealCheckpoint{"smollm2-135m", "llama", 30, 0, true, 0}, RealCheckpoint{"internlm-7b", "internlm", 32, 0, false, 0},
        RealCheckpoint{"internlm-20b", "internlm", 60, 0, false, 0},
        RealCheckpoint{"internlm2-1.8b", "internlm2", 24, 0, false, 0},
        RealCheckpoint{"internlm2-7b", "internlm2", 32, 0, false, 0},
        RealCheckpoint{"internlm-xcomposer2-7b", "internlm2", 32, 0, false, 395},
        RealCheckpoint{"qwen-7b", "qwen", 32, 0, false, 0}, RealCheckpoint{"qwen1.5-7b", "qwen2", 32, 0, false, 0},
        RealCheckpoint{"qwen2-0.5b", "qwen2", 24, 0, true, 0}, RealCheckpoint{"qwen2-7b", "qwen2", 28, 0, false, 0},
        RealCheckpoint{"qwen2.5-7b", "qwen2", 28, 0, false, 0}, RealCheckpoint{"qwen3-0.6b", "qwen3", 28, 0, true, 0},
        RealCheckpoint{"baichuan-7b", "baichuan", 32, 0, false, 0}, RealCheckpoint{"baichuan-13b", "baichuan", 40, 0, false, 0},
        RealCheckpoint{"baichuan2-7b", "baichuan", 32, 0, false, 0},
        RealCheckpoint{"baichuan2-13b", "baichuan", 40, 0, false, 0}, RealCheckpoint{"gemma-2b", "gemma", 18, 0, true, 0},
        RealCheckpoint{"gemma-7b", "gemma", 28, 0, true, 0}, RealCheckpoint{"gemma-2-2b", "gemma", 26, 4096, true, 0},
        RealCheckpoint{"gemma-3-1b", "gemma", 26, 512, true, 0}, RealCheckpoint{"phi-3-mini-4k", "phi3", 32, 2047, false, 0},
        RealCheckpoint{"chatglm2-6b", "chatglm", 28, 0, false, 0}, RealCheckpoint{"chatglm3-6b", "chatglm", 28, 0, false, 1},
        RealCheckpoint{"glm-4-9b", "chatglm", 40, 0, false, 0}, RealCheckpoint{"glm-4-9b-hf", "glm4", 40, 0, false, 0},
        RealCheckpoint{"glm-4-9b-0414", "glm4", 40, 0, false, 0}, RealCheckpoint{"falcon-7b", "falcon", 32, 0, true, 1},
        RealCheckpoint{"falcon-40b", "falcon", 60, 0, true, 1}, RealCheckpoint{"falcon-rw-1b", "falcon", 24, 0, true, 1},
        RealCheckpoint{"granite-3.0-2b", "granite", 40, 0, true, 0}, RealCheckpoint{"mixtral-8x7b", "mixtral", 32, 0, false, 0},
        RealCheckpoint{"qwen1.5-moe-a2.7b", "qwen_moe", 24, 0, false, 0},
        RealCheckpoint{"qwen3-30b-a3b", "qwen_moe", 48, 0, false, 0},
        RealCheckpoint{"deepseek-moe-16b", "deepseek", 28, 0, false, 0},
        RealCheckpoint{"deepseek-v2-lite", "deepseek", 27, 0, false, 0},
        RealCheckpoint{"deepseek-v2", "deepseek", 60, 0, false, 0},
        RealCheckpoint{"deepseek-v3", "deepseek", 61, 0, false, 788}, RealCheckpoint{"dbrx", "dbrx", 40, 0, false, 0}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
      return name;
    });

TEST(LoadPlanTest, MissingTensorIsNamed) {
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.2.self_attn.k_proj.bias",
        "model.norm.weight", "model.layers.0.post_attention_layernorm.weight"}) {
    Case tiny(kTiny + std::string("qwen2"));
    tiny.Remove(name);
    EXPECT_EQ(tiny.Error(), std::string("tensor ") + name + " is missing");
  }
}

TEST(LoadPlanTest, UnusedTensorIsNamed) {
  for (const char* name :
       {"model.layers.3.mlp.up_proj.weight",     // a layer too many
        "model.layers.01.mlp.up_proj.weight",    // not how the number 1 is written
        "model.layers.1.self_attn.q_proj.bias",  // llama's configuration asks for no biases
        "model.layers.-1.input_layernorm.weight", "model.layers..input_layernorm.weight", "lora.weight", ""}) {
    Case tiny(kTiny + std::string("llama"));
    tiny.index.push_back({.name = name, .shape = {64}});
    EXPECT_THAT(tiny.Error(), AllOf(HasSubstr(std::string("tensor ") + name + " [64]"), HasSubstr("has no place"))) << name;
  }
}

TEST(LoadPlanTest, WrongShapeIsNamedWithWhatIsWanted) {
  Case tiny(kTiny + std::string("llama"));
  tiny.Tensor("model.layers.1.mlp.up_proj.weight").shape = {95, 64};
  EXPECT_EQ(tiny.Error(), "tensor model.layers.1.mlp.up_proj.weight has shape [95, 64], want [96, 64]");
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {1, 64}, {64, 1}, {65}}) {
    Case other(kTiny + std::string("llama"));
    other.Tensor("model.norm.weight").shape = shape;
    EXPECT_THAT(other.Error(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("want [64]")));
  }
}

TEST(LoadPlanTest, WrongTypeIsNamed) {
  Case tiny(kTiny + std::string("llama"));
  tiny.Tensor("model.norm.weight").dtype = kernels::DType::kQ8_0;
  EXPECT_THAT(tiny.Error(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("q8_0")));
}

TEST(LoadPlanTest, DoubledPlaceIsNamed) {
  Case tiny(kTiny + std::string("internlm2"));
  tiny.rules.push_back(model::Weight("model.layers.{}.attention.wq.weight", Slot::kQkv, 0));
  tiny.index.push_back({.name = "model.layers.0.attention.wq.weight", .shape = {64, 64}});
  EXPECT_EQ(tiny.Error(),
            "tensors model.layers.0.attention.wqkv.weight and model.layers.0.attention.wq.weight fill the same place");
  Case twice(kTiny + std::string("llama"));
  twice.rules.push_back(model::Weight("norm", Slot::kFinalNorm));
  twice.index.push_back({.name = "norm", .shape = {64}});
  EXPECT_EQ(twice.Error(), "tensors model.norm.weight and norm fill the same place");
}

TEST(LoadPlanTest, SlotThatNoRuleFillsIsNamed) {
  Case tiny(kTiny + std::string("llama"));
  tiny.spec.layers[1].attention_norm.bias = true;  // which no family with these names has
  EXPECT_THAT(tiny.Error(), AllOf(HasSubstr("slot attention_norm_bias of layer 1")));
}

TEST(LoadPlanTest, TiedHeadIsAnAliasAndItsCopyADuplicate) {
  Case tiny(kTiny + std::string("qwen2"));
  ASSERT_EQ(tiny.Plan()->aliases.size(), 1u);
  EXPECT_EQ(tiny.Plan()->aliases[0].slot, Slot::kHead);
  tiny.index.push_back({.name = "lm_head.weight", .shape = {288, 64}});
  ASSERT_EQ(tiny.Plan()->duplicates.size(), 1u);
  EXPECT_EQ(tiny.index[tiny.Plan()->duplicates[0].original].name, "model.embed_tokens.weight");
  tiny.Tensor("lm_head.weight").shape = {287, 64};
  EXPECT_THAT(tiny.Error(), AllOf(HasSubstr("lm_head.weight"), HasSubstr("[287, 64]"), HasSubstr("[288, 64]")));
}

TEST(LoadPlanTest, DuplicateOfAMissingTensorIsAMissingTensor) {
  Case tiny(kTiny + std::string("qwen2"));
  tiny.Remove("model.embed_tokens.weight");
  tiny.index.push_back({.name = "lm_head.weight", .shape = {288, 64}});
  EXPECT_EQ(tiny.Error(), "tensor model.embed_tokens.weight is missing");
}

TEST(LoadPlanTest, PartsOfASlotAreNeighboursInOrder) {
  const Case tiny(kTiny + std::string("llama"));
  const LoadPlan plan = tiny.Plan().value();
  std::vector<std::string> layer_0;
  for (const LoadPlan::Step& step : plan.steps) {
    if (step.slot == Slot::kQkv && step.layer == 0) layer_0.push_back(tiny.index[step.tensor].name);
  }
  EXPECT_THAT(layer_0,
              ::testing::ElementsAre("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                                     "model.layers.0.self_attn.v_proj.weight"));
}

TEST(LoadPlanTest, RanksShareRowsAndColumns) {
  const Case tiny(kTiny + std::string("internlm2"));
  const LoadPlan plan = tiny.Plan({.rank = 1, .size = 2}).value();
  for (const LoadPlan::Step& step : plan.steps) {
    if (step.slot == Slot::kQkv) {  // q heads 2, 3, then k head 1, then v head 1
      ASSERT_EQ(step.selection.ranges.size(), 3u);
      EXPECT_EQ(step.selection.ranges[0].begin, 32);
      EXPECT_EQ(step.selection.ranges[0].count, 32);
      EXPECT_EQ(step.selection.ranges[1].begin, 64 + 16);
      EXPECT_EQ(step.selection.ranges[2].begin, 64 + 32 + 16);
    } else if (step.slot == Slot::kAttentionOut) {
      EXPECT_EQ(step.selection.column_begin, 32);
      EXPECT_EQ(step.selection.columns, 32);
      EXPECT_EQ(step.selection.rows(), 64);
    } else if (step.slot == Slot::kAttentionNorm) {
      EXPECT_EQ(step.selection.rows(), 64);
    }
  }
  EXPECT_THAT(std::string(tiny.Plan({.rank = 0, .size = 3}).status().message()), AllOf(HasSubstr("qkv"), HasSubstr("3 ranks")));
}

TEST(LoadPlanTest, RanksThatOutnumberKvHeadsShareThem) {
  const Case tiny(kTiny + std::string("internlm2"));
  for (const int rank : {0, 1, 2, 3}) {
    const LoadPlan plan = tiny.Plan({.rank = rank, .size = 4}).value();
    for (const LoadPlan::Step& step : plan.steps) {
      if (step.slot != Slot::kQkv) continue;
      EXPECT_EQ(step.selection.ranges[0].begin, rank * 16);
      EXPECT_EQ(step.selection.ranges[1].begin, 64 + rank / 2 * 16);
      EXPECT_EQ(step.selection.ranges[2].begin, 64 + 32 + rank / 2 * 16);
      EXPECT_EQ(step.selection.rows(), 3 * 16);
    }
  }
}

TEST(LoadPlanTest, ExpertsFillTheirPartsAndAMissingOneIsNamed) {
  Case tiny(kTiny + std::string("mixtral"));
  const LoadPlan plan = tiny.Plan({.rank = 1, .size = 2}).value();
  std::vector<std::string> up;
  for (const LoadPlan::Step& step : plan.steps) {
    if (step.slot != Slot::kExpertsUp || step.layer != 0) continue;
    up.push_back(tiny.index[step.tensor].name);
    EXPECT_EQ(step.selection.ranges[0].begin, 48);
    EXPECT_EQ(step.selection.rows(), 48);
  }
  ASSERT_EQ(up.size(), 10u);
  EXPECT_EQ(up[4], "model.layers.0.block_sparse_moe.experts.4.w1.weight");
  EXPECT_EQ(up[5], "model.layers.0.block_sparse_moe.experts.0.w3.weight");
  tiny.index.push_back({.name = "model.layers.0.block_sparse_moe.experts.5.w1.weight", .shape = {96, 64}});
  EXPECT_THAT(tiny.Error(), HasSubstr("experts.5.w1.weight [96, 64] has no place"));
  tiny.index.pop_back();
  tiny.Remove("model.layers.2.block_sparse_moe.experts.3.w3.weight");
  EXPECT_EQ(tiny.Error(), "tensor model.layers.2.block_sparse_moe.experts.3.w3.weight is missing");
}

TEST(LoadPlanTest, StackedExpertsAreDividedInsideEachExpert) {
  const Case tiny(kTiny + std::string("dbrx"));
  const LoadPlan plan = tiny.Plan({.rank = 1, .size = 2}).value();
  for (const LoadPlan::Step& step : plan.steps) {
    if (step.slot == Slot::kExpertsUp) {
      ASSERT_EQ(step.selection.ranges.size(), 5u);
      EXPECT_EQ(step.selection.ranges[2].begin, 2 * 48 + 24);
      EXPECT_EQ(step.selection.rows(), 5 * 24);
    } else if (step.slot == Slot::kExpertsDown) {
      EXPECT_EQ(step.selection.column_begin, 24);
      EXPECT_EQ(step.selection.rows(), 5 * 64);
    }
  }
}

}  // namespace
}  // namespace berth::loader
