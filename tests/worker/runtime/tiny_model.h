#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"

namespace berth::runtime {

struct TinyModelOptions {
  int layers = 2;
  int hidden = 32;
  int q_heads = 4;
  int kv_heads = 2;
  int head_dim = 16;
  int intermediate = 48;
  int vocab = 160;
  int max_position = 512;
  unsigned seed = 1;
};

// A model of random f32 weights in memory: every parameter that the spec can ask for is there and is not trivial.
struct TinyModel {
  explicit TinyModel(const TinyModelOptions& options = {}) : random(options.seed) {
    const int hidden = options.hidden, query = options.q_heads * options.head_dim;
    const int qkv = query + 2 * options.kv_heads * options.head_dim;
    spec = {.family = "tiny",
            .hidden = hidden,
            .vocab = options.vocab,
            .max_position = options.max_position,
            .embed_scale = 1.25f,
            .logit_scale = 0.75f};
    weights.embed = Matrix(options.vocab, hidden, 1);
    for (int i = 0; i < options.layers; ++i) {
      spec.layers.push_back({.attention = {.q_heads = options.q_heads,
                                           .kv_heads = options.kv_heads,
                                           .head_dim = options.head_dim,
                                           .qkv_bias = true,
                                           .out_bias = true,
                                           .qk_norm = true,
                                           .scale = 0.3f,
                                           .rope = {.rotary_dim = options.head_dim, .theta = 500}},
                             .mlp = {.intermediate = options.intermediate, .bias = true}});
      weights.layers.push_back({.attention_norm = Norm(hidden),
                                .qkv = Matrix(qkv, hidden, 0.4f),
                                .qkv_bias = Vector(qkv, 0, 0.2f),
                                .q_norm = Norm(options.head_dim),
                                .k_norm = Norm(options.head_dim),
                                .attention_out = Matrix(hidden, query, 0.4f),
                                .attention_out_bias = Vector(hidden, 0, 0.2f),
                                .mlp_norm = Norm(hidden),
                                .mlp_up = Matrix(2 * options.intermediate, hidden, 0.4f),
                                .mlp_up_bias = Vector(2 * options.intermediate, 0, 0.2f),
                                .mlp_down = Matrix(hidden, options.intermediate, 0.4f),
                                .mlp_down_bias = Vector(hidden, 0, 0.2f)});
    }
    weights.final_norm = Norm(hidden);
    weights.head = Matrix(options.vocab, hidden, 1);
    weights.head_bias = Vector(options.vocab, 0, 0.2f);
  }

  kernels::Tensor Vector(int64_t size, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float>& values = memory.emplace_back(size);
    for (float& value : values) value = normal(random);
    return kernels::Tensor(values.data(), kernels::DType::kF32, {size});
  }

  kernels::LinearWeight Matrix(int64_t rows, int64_t columns, float deviation) {
    const kernels::Tensor values = Vector(rows * columns, 0, deviation);
    return {.k = columns,
            .segments = {{.dtype = kernels::DType::kF32, .rows = rows, .data = static_cast<const std::byte*>(values.raw())}}};
  }

  kernels::Norm Norm(int size) { return {.weight = Vector(size, 1, 0.2f)}; }

  static float* Row(const kernels::LinearWeight& weight, int64_t row) {
    return reinterpret_cast<float*>(const_cast<std::byte*>(weight.segments[0].data)) + row * weight.k;
  }

  std::mt19937 random;
  std::deque<std::vector<float>> memory;
  model::DecoderSpec spec;
  model::DecoderWeights weights;
};

}  // namespace berth::runtime
