#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace berth::model {

// Plain data that holds every difference between architectures. One Decoder loops over layers and branches on these fields
// only; no architecture's name appears outside worker/model/families.

struct NormSpec {
  kernels::NormKind kind = kernels::NormKind::kRms;
  float epsilon = 1e-5f;
  float weight_offset = 0;  // added to the stored weight
  bool bias = false;
};

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

struct RopeSpec {
  int rotary_dim = 0;  // 0: no rotation
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_frequency_factor = 1;   // kLlama3
  double high_frequency_factor = 4;  // kLlama3
  int original_max_position = 0;     // kLlama3
};

struct AttentionSpec {
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;  // RMS norm over head_dim, weights shared by all heads
  float scale = 0;
  int window = 0;  // 0: all positions
  float softcap = 0;
  float clip = 0;
  RopeSpec rope;
};

struct MlpSpec {
  int intermediate = 0;
  bool gated = true;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool bias = false;
};

struct LayerSpec {
  NormSpec attention_norm;
  AttentionSpec attention;
  NormSpec mlp_norm;
  MlpSpec mlp;
};

struct DecoderSpec {
  std::string family;  // for people: logs and `berth inspect`
  int hidden = 0;
  int vocab = 0;         // rows of the embedding; the tokenizer may have fewer
  int max_position = 0;  // context length the checkpoint was made for
  float embed_scale = 1;
  std::vector<LayerSpec> layers;
  NormSpec final_norm;
  bool tied_head = false;  // the head reads the embedding
  float logit_scale = 1;
  float logit_softcap = 0;
};

}  // namespace berth::model
