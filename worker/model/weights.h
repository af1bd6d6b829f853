#pragma once

#include <vector>

#include "kernels/linear_weight.h"
#include "kernels/ops.h"

namespace berth::model {

// Views of a model's resident weights in canonical form; the loader owns the memory. Norm weights and biases are f32.

struct LayerWeights {
  kernels::Norm attention_norm;
  kernels::LinearWeight qkv;  // [(q_heads + 2 kv_heads) * head_dim, hidden], half-split RoPE order
  kernels::Tensor qkv_bias;
  kernels::LinearWeight q_down, q, latent, latent_up;  // as in kernels::LatentInArgs
  kernels::Norm q_down_norm, latent_norm;
  kernels::Norm q_norm, k_norm;
  kernels::LinearWeight attention_out;  // [hidden, q_heads * value_dim]
  kernels::Tensor attention_out_bias;
  kernels::Norm attention_post_norm;
  kernels::Norm mlp_norm;
  kernels::LinearWeight mlp_up;  // gated: [2 * intermediate, hidden], gate rows then up rows
  kernels::Tensor mlp_up_bias;
  kernels::LinearWeight mlp_down;  // [hidden, intermediate]
  kernels::Tensor mlp_down_bias;
  kernels::LinearWeight mlp_row_gate;  // [1, hidden]
  kernels::LinearWeight router;        // [experts, hidden]
  kernels::Tensor router_bias;
  kernels::LinearWeight experts_up;    // [2 * experts * intermediate, hidden]: all gate rows, then all up rows
  kernels::LinearWeight experts_down;  // [experts * hidden, intermediate]
  kernels::Norm mlp_post_norm;
  kernels::ImageAdapter qkv_adapter, attention_out_adapter, mlp_up_adapter, mlp_down_adapter;  // without rows
};

struct DecoderWeights {
  kernels::LinearWeight embed;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  kernels::Norm final_norm;
  kernels::LinearWeight head;  // [vocab, hidden]; the embedding when tied
  kernels::Tensor head_bias;
};

}  // namespace berth::model
