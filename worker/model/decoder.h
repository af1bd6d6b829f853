#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"

namespace berth::model {

// One step's input to the decoder. Tensors live where the ops run.
struct DecoderInput {
  kernels::Tensor token;       // i32 [tokens]
  kernels::Tensor last_token;  // i32 [slots] or empty, as in EmbedArgs
  kernels::Batch batch;
  kernels::Tensor image_row;              // i32 [image rows] the step's rows that are of images, or empty: none
  absl::Span<const kernels::KvLayer> kv;  // one per layer
  kernels::Tensor logit_row;              // i32 [rows] tokens whose logits are wanted; empty: none
  kernels::Tensor logits;                 // out f32 [rows, vocab]
  kernels::PoolArgs pool;                 // of sequences whose hidden states are summed; the decoder sets residual and norm
};

struct DecoderOptions {
  int max_tokens = 0;                           // of one step
  kernels::DType dtype = kernels::DType::kF32;  // of the activations
};

// The one decoder: loops over layers, calls stage ops, branches on DecoderSpec fields only. Owns the activation buffers. The
// spec, weights and ops outlive it. Thread: the executor's.
class Decoder {
 public:
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const DecoderSpec& spec, const DecoderWeights& weights,
                                                         kernels::Ops& ops, kernels::Allocator& allocator,
                                                         const DecoderOptions& options);
  void Forward(const DecoderInput& input);
  // Logits of more rows of the step of `tokens` tokens that Forward computed last: f32 [rows, vocab].
  void Head(int64_t tokens, const kernels::Tensor& row, const kernels::Tensor& logits);

 private:
  Decoder(const DecoderSpec& spec, const DecoderWeights& weights, kernels::Ops& ops, kernels::DType dtype)
      : spec_(spec), weights_(weights), ops_(ops), dtype_(dtype) {}
  absl::Status MakeActivations(kernels::Allocator& allocator, int max_tokens);
  absl::Status MakeRopeTables(kernels::Allocator& allocator);
  absl::Status MakeAlibiSlopes(kernels::Allocator& allocator);
  void Layer(size_t layer, const kernels::Tensor& residual, const kernels::Batch& batch, const kernels::KvLayer& kv);
  void Attention(size_t layer, const kernels::Tensor& residual, const kernels::Batch& batch, const kernels::KvLayer& kv);
  void AttnIn(size_t layer, const kernels::Tensor& residual, const kernels::Batch& batch, const kernels::KvLayer& kv,
              const kernels::Tensor& query);
  void LatentIn(size_t layer, const kernels::Tensor& residual, const kernels::Batch& batch, const kernels::KvLayer& kv,
                const kernels::Tensor& query);
  kernels::Tensor LatentOut(size_t layer, int64_t tokens);
  void AttentionOut(size_t layer, const kernels::Tensor& residual);
  void MlpUp(size_t layer, const kernels::Tensor& residual);
  void MlpDown(size_t layer, const kernels::Tensor& residual);
  void Moe(size_t layer, const kernels::Tensor& residual);

  const DecoderSpec& spec_;
  const DecoderWeights& weights_;
  kernels::Ops& ops_;
  const kernels::DType dtype_;
  kernels::Buffer activations_;
  kernels::Tensor residual_, query_, attended_, intermediate_;  // views of activations_, max_tokens rows each
  kernels::Tensor image_row_;                                   // of the step that runs
  std::vector<kernels::Rope> rope_;                             // per layer; equal specs share one table
  kernels::Buffer rope_tables_;
  std::vector<kernels::Tensor> alibi_slope_;  // per layer; empty: none
  kernels::Buffer alibi_slopes_;
};

}  // namespace berth::model
