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

// The last row of every entry of a batch, as a batch of its own.
struct LastRows {
  kernels::Tensor row;  // i32 [sequences] its rows in the whole batch; empty: there is no such batch
  kernels::Batch batch;
};

// Those of `batch`: i32 [sequences] their rows and positions, and `index`, the numbers 0 … sequences.
LastRows LastRowsOf(const kernels::Batch& batch, const kernels::Tensor& row, const kernels::Tensor& position,
                    const kernels::Tensor& index);

// One step's input to the decoder. Tensors live where the ops run.
struct DecoderInput {
  kernels::Tensor token;       // i32 [tokens]
  kernels::Tensor last_token;  // i32 [slots] or empty, as in EmbedArgs
  kernels::Batch batch;
  // Given, nobody reads other rows after the layers: the last layer puts all rows into its KV cache and goes on with these
  // alone, and logit_row counts them. Not beside images or pools.
  LastRows last;
  kernels::Tensor image_row;              // i32 [image rows] the step's rows that are of images, or empty: none
  absl::Span<const kernels::KvLayer> kv;  // one per layer
  kernels::Tensor logit_row;              // i32 [rows] tokens whose logits are wanted; empty: none
  kernels::Tensor logits;                 // out f32 [rows, vocab]
  int best_of = 0;                        // as in HeadArgs
  kernels::PoolArgs pool;                 // of sequences whose hidden states are summed; the decoder sets residual and norm
};

struct DecoderOptions {
  int max_tokens = 0;                           // of one step
  int max_last_rows = 0;                        // of one step
  kernels::DType dtype = kernels::DType::kF32;  // of the activations
  // Queries of the last layer are those of last rows alone. Not where equal rows have to come out equal to the bit, if products
  // of parts of a weight have other bits than those of all of it.
  bool last_queries = true;
};

// The one decoder: loops over layers, calls stage ops, branches on DecoderSpec fields only. Owns the activation buffers. The
// spec, weights and ops outlive it. Thread: the executor's.
class Decoder {
 public:
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const DecoderSpec& spec, const DecoderWeights& weights,
                                                         kernels::Ops& ops, kernels::Allocator& allocator,
                                                         const DecoderOptions& options);
  void Forward(const DecoderInput& input);
  // Logits of more rows of the step of `tokens` tokens, all of them kept, that Forward computed last: f32 [rows, vocab].
  void Head(int64_t tokens, const kernels::Tensor& row, const kernels::Tensor& logits);

 private:
  Decoder(const DecoderSpec& spec, const DecoderWeights& weights, kernels::Ops& ops, const DecoderOptions& options)
      : spec_(spec), weights_(weights), ops_(ops), dtype_(options.dtype), last_queries_(options.last_queries) {}
  // What goes through a layer.
  struct Rows {
    kernels::Tensor residual;  // [tokens, hidden]
    kernels::Tensor query;     // at least [tokens, q_heads * head_dim]
    kernels::Batch batch;
  };

  absl::Status MakeActivations(kernels::Allocator& allocator, const DecoderOptions& options);
  absl::Status MakeRopeTables(kernels::Allocator& allocator);
  absl::Status MakeAlibiSlopes(kernels::Allocator& allocator);
  void Query(size_t layer, const Rows& rows, const kernels::KvLayer& kv);
  enum class Heads { kAll, kQueries, kKeysAndValues };
  void AttnIn(size_t layer, const Rows& rows, const kernels::KvLayer& kv, Heads heads);
  void LatentIn(size_t layer, const Rows& rows, const kernels::KvLayer& kv);
  Rows QueryLast(size_t layer, const Rows& rows, const kernels::KvLayer& kv, const LastRows& last);
  void Attend(size_t layer, const Rows& rows, const kernels::KvLayer& kv);
  // What follows attention.
  void Finish(size_t layer, const kernels::Tensor& residual);
  kernels::Tensor LatentOut(size_t layer, int64_t tokens);
  void AttentionOut(size_t layer, const kernels::Tensor& residual);
  void MlpUp(size_t layer, const kernels::Tensor& residual);
  void MlpDown(size_t layer, const kernels::Tensor& residual);
  void Moe(size_t layer, const kernels::Tensor& residual);
  void HeadOf(const kernels::Tensor& residual, const kernels::Tensor& row, const kernels::Tensor& logits, int best_of);

  const DecoderSpec& spec_;
  const DecoderWeights& weights_;
  kernels::Ops& ops_;
  const kernels::DType dtype_;
  const bool last_queries_;
  kernels::Buffer activations_;
  kernels::Tensor residual_, query_, attended_, intermediate_;  // views of activations_, max_tokens rows each
  kernels::Tensor last_residual_, last_query_;                  // the same, max_last_rows rows each
  kernels::Tensor image_row_;                                   // of the step that runs
  std::vector<kernels::Rope> rope_;                             // per layer; equal specs share one table
  kernels::Buffer rope_tables_;
  std::vector<kernels::Tensor> alibi_slope_;  // per layer; empty: none
  kernels::Buffer alibi_slopes_;
};

}  // namespace berth::model
