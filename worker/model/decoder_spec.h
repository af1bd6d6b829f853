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

// kDynamic and kLong rotate a sequence by the length of its prompt: see DecoderSpec::rope_lengths.
enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kDynamic, kYarn, kLong };

struct RopeSpec {
  int rotary_dim = 0;  // 0: no rotation
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_frequency_factor = 1;    // kLlama3, kYarn: turns within original_max_position
  double high_frequency_factor = 4;   // kLlama3, kYarn
  int original_max_position = 0;      // kLlama3, kDynamic, kYarn, kLong
  bool whole_pairs = true;            // kYarn: the blend's ends are rounded to pairs
  std::vector<double> divisors;       // kLong: of each pair, up to original_max_position
  std::vector<double> long_divisors;  // kLong: beyond it
  float attention_scale = 1;          // multiplies cos and sin

  bool operator==(const RopeSpec&) const = default;
};

// Multi-head latent attention (kernels::LatentInArgs): all heads share one key row of `rank` and the rotary dimensions, whose
// first `rank` are its value too.
struct LatentSpec {
  int rank = 0;       // 0: none
  int q_rank = 0;     // 0: q is made of the hidden state
  int key_dim = 0;    // of a head: what does not rotate
  int value_dim = 0;  // of a head
  NormSpec norm;      // of both ranks
};

struct AttentionSpec {
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;  // of a row of q and of a cached key
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;  // RMS norm over head_dim, weights shared by all heads
  float scale = 0;
  int window = 0;  // 0: all positions
  float softcap = 0;
  float clip = 0;
  float alibi = 0;     // of the heads' slopes; 0: none
  int log_length = 0;  // as in kernels::AttnInArgs
  RopeSpec rope;
  LatentSpec latent;

  int value_dim() const { return latent.rank > 0 ? latent.value_dim : head_dim; }  // of a head's output
  // Elements that one token has in the cache.
  int64_t kv_elements() const { return static_cast<int64_t>(kv_heads) * (latent.rank > 0 ? 1 : 2) * head_dim; }
};

struct MlpSpec {
  int intermediate = 0;
  bool gated = true;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool bias = false;
  bool row_gate = false;  // a sigmoid of the input weighs each row
};

struct MoeSpec {
  kernels::Routing routing;
  bool router_bias = false;
  int intermediate = 0;
  kernels::Activation activation = kernels::Activation::kSilu;
};

struct LayerSpec {
  NormSpec attention_norm;
  AttentionSpec attention;
  bool attention_post_norm = false;  // of attention's output before it is added, like attention_norm
  NormSpec mlp_norm;
  MlpSpec mlp;                 // intermediate 0: none. Beside a moe: the shared experts
  MoeSpec moe;                 // no experts: none
  bool mlp_post_norm = false;  // like mlp_norm
  bool parallel = false;       // attention and MLP both read the layer's input
  int image_rank = 0;          // of the adapters of attention's and MLP's products on rows of images; 0: none
  bool shared_norm = false;    // the MLP reads attention's normalised input
  float branch_scale = 1;      // of what attention and MLP add
};

struct DecoderSpec {
  std::string family;  // for people: logs and `berth inspect`
  int hidden = 0;
  int vocab = 0;         // rows of the embedding; the tokenizer may have fewer
  int max_position = 0;  // context length the checkpoint was made for
  // Rising lengths: a sequence whose prompt is longer than n of them rotates by variant n from its first token to its last, so
  // that no cached key has another variant's angle.
  std::vector<int> rope_lengths;
  float embed_scale = 1;
  std::vector<LayerSpec> layers;
  // Checkpoints hold so many more layers behind the last one, which predict further tokens ahead; they are not read.
  int prediction_layers = 0;
  NormSpec final_norm;
  bool tied_head = false;        // the head reads the embedding
  bool normalized_head = false;  // each row of the head has length 1
  float logit_scale = 1;
  float logit_softcap = 0;
};

}  // namespace berth::model
