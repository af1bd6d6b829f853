#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "kernels/linear_weight.h"
#include "kernels/tensor.h"

namespace berth::kernels {

// The stage ops: what a decoder layer is made of, as coarse as the fastest kernels. What flows between them is the
// un-normalised residual stream [tokens, hidden]. Shapes below name tokens = rows of the step, sequences = batch entries, N and
// K of weights as in LinearWeight. Activations are f32 on the CPU, bf16 or f16 on CUDA; accumulation is f32 everywhere.

enum class NormKind : uint8_t { kRms, kLayer };

struct Norm {
  NormKind kind = NormKind::kRms;
  Tensor weight;  // f32 [dim]; empty: no norm
  Tensor bias;    // f32 [dim] or empty
  float epsilon = 1e-5f;
  float weight_offset = 0.f;  // added to the weight (Gemma stores w - 1)
};

// Rotary embedding in half-split order: dimension i of a head pairs with i + rotary_dim / 2. Dimensions from rotary_dim on
// pass.
struct Rope {
  Tensor inverse_frequency;   // f32 [variants, rotary_dim / 2]; empty: no rotation
  float attention_scale = 1;  // multiplies cos and sin (yarn)
};

enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

// The rows of one step. Rows of a sequence are consecutive and in order. A prefill chunk is a sequence with several rows, a
// decode row one with a single row.
struct Batch {
  uint64_t number = 0;  // batches of the same number have the same lengths and block table; 0: nothing is known of them
  int tokens = 0;
  int sequences = 0;
  int decode_sequences = 0;  // so many entries at the front have one row each; backends may treat them apart
  int64_t chunk_pairs = 0;   // of a row of the other entries and a position that it sees; 0: not known
  int max_context = 0;       // no context_length exceeds it; 0: the block table's width bounds it
  Tensor position;           // i32 [tokens] absolute position of the row in its sequence
  Tensor sequence_of;        // i32 [tokens] batch entry of the row
  Tensor query_start;        // i32 [sequences + 1] first row of each entry
  Tensor context_length;     // i32 [sequences] tokens in the cache after this step's KV write
  Tensor rope_variant;       // i32 [sequences] row of Rope::inverse_frequency, or empty: 0
  Tensor block_table;        // i32 [sequences, max_blocks] KV block of every 64 positions
};

// A low-rank addition to a product's rows: product[r] += up · (down · in[r]) for the rows r of the step that are of images
// (XComposer2's partial LoRA). A product whose rows are of several parts may have a `down` for each, one behind the other.
struct ImageAdapter {
  LinearWeight down;  // [parts * rank, K] or empty: none
  LinearWeight up;    // [N, rank]
  Tensor row;         // i32 [image rows], all different, or empty: none
};

// Padding: its row is zeros, as are then its products, which on a GPU take less power than those of any other row.
inline constexpr int32_t kNoToken = INT32_MIN;

struct EmbedArgs {
  Tensor token;        // i32 [tokens], kNoToken among them; other t < 0 stand for last_token[~t]
  Tensor last_token;   // i32 [slots] or empty: there are none of these
  LinearWeight table;  // [vocab, hidden]
  float scale = 1;
  Tensor out;  // residual [tokens, hidden]
};

// out[i] = in[row[i]].
struct GatherArgs {
  Tensor in;   // activations [tokens, width]
  Tensor row;  // i32 [rows]
  Tensor out;  // [rows, width], not where `in` is
};

// norm → QKV → bias → clip → q/k norm → RoPE → KV write. Of queries alone, or of keys and values alone, where the other heads
// are 0 and `qkv` and `bias` have no rows for them.
struct AttnInArgs {
  Tensor residual;  // [tokens, hidden]
  Norm norm;
  LinearWeight qkv;  // [(q_heads + 2 kv_heads) * head_dim, hidden]: q rows, then k, then v
  ImageAdapter adapter;
  Tensor bias;          // f32 [N] or empty
  float clip = 0;       // |x| bound after the bias (DBRX); 0: none
  Norm q_norm, k_norm;  // over head_dim of every head
  Rope rope;
  int log_length = 0;  // q is multiplied by max(1, log_{log_length}(position + 1)) (Qwen's logN); 0: not
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  Batch batch;
  KvLayer kv;
  Tensor q;  // out [tokens, q_heads, head_dim]
};

// Multi-head latent attention (DeepSeek-AI, 2024). All heads share one cached row [latent | rotated part]: `up` would make each
// head's key and value of its latent. Instead a head's query goes through the rows of `up` that make keys, so that it meets the
// latents themselves; `Attend` then returns a weighted mean of latents, of which LatentOut makes the head's value.
//
// norm → q (through q_down and its norm, where there is one) and latent → latent_norm, RoPE → queries to latents → KV write.
struct LatentInArgs {
  Tensor residual;  // [tokens, hidden]
  Norm norm;
  LinearWeight q_down;  // [q_rank, hidden] or empty
  Norm q_down_norm;     // over q_rank
  LinearWeight q;       // [heads * (key_dim + rope_dim), q_rank or hidden]; a head's last rope_dim elements rotate
  LinearWeight latent;  // [rank + rope_dim, hidden]; the last rope_dim elements rotate
  Norm latent_norm;     // over rank
  LinearWeight up;      // [heads * (key_dim + value_dim), rank]; of every head the rows of its key, then of its value
  Rope rope;
  int heads = 0;
  int key_dim = 0;
  int value_dim = 0;
  int rank = 0;
  Batch batch;
  KvLayer kv;    // one head, key_dim rank + rope_dim, values_in_keys
  Tensor q_out;  // out [tokens, heads, rank + rope_dim]
};

// out[h] = the rows of `up` that make head h's value · in[h].
struct LatentOutArgs {
  Tensor in;        // [tokens, heads, rank]
  LinearWeight up;  // as in LatentInArgs
  int key_dim = 0;
  int value_dim = 0;
  Tensor out;  // [tokens, heads, value_dim]
};

// Causal attention of every row over its sequence's cache, the row's own position included.
struct AttendArgs {
  Tensor q;  // [tokens, q_heads, head_dim]; q_heads is a multiple of kv.kv_heads
  Batch batch;
  KvLayer kv;
  float scale = 0;     // usually 1 / sqrt(head_dim)
  int window = 0;      // a row sees the last `window` positions, itself included; 0: all
  float softcap = 0;   // scores become softcap * tanh(score / softcap); 0: none
  Tensor alibi_slope;  // f32 [q_heads] or empty
  Tensor out;          // [tokens, q_heads, head_dim]
};

// residual += in · Wᵀ + bias, then an optional norm of the branch before the addition (Gemma 2's post norms).
struct ProjectOutArgs {
  Tensor in;            // [tokens, K]
  LinearWeight weight;  // [hidden, K]
  ImageAdapter adapter;
  Tensor bias;  // f32 [hidden] or empty
  Norm post_norm;
  float scale = 1;  // of the branch
  Tensor residual;  // in and out [tokens, hidden]
};

struct MlpUpArgs {
  Tensor residual;  // [tokens, hidden]
  Norm norm;
  LinearWeight weight;  // gated: [2 * inter, hidden], gate rows then up rows; else [inter, hidden]
  ImageAdapter adapter;
  Tensor bias;        // f32 [N] or empty
  bool gated = true;  // out = act(gate) * up; else act(up)
  Activation activation = Activation::kSilu;
  LinearWeight row_gate;  // [1, hidden] or empty: a row of out is multiplied by sigmoid(norm(row) · gate)
  Tensor out;             // [tokens, inter]
};

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };

// How a token chooses its experts and weighs them. Among equal scores the lowest expert is chosen.
struct Routing {
  int experts = 0;
  int top_k = 0;
  RouterScore score = RouterScore::kSoftmax;  // over all experts
  bool renormalize = false;                   // the chosen ones' weights are divided by their sum
  float scale = 1;                            // of the weights
  // Experts form `groups` equal runs. Only those in the top_groups best are chosen from; a group is as good as the sum of its
  // group_best best experts.
  int groups = 1;
  int top_groups = 1;
  int group_best = 1;
};

// residual += Σ weight[e] · down[e](act(gate[e](x)) * up[e](x)) over the experts e that a token chose, where x =
// norm(residual). Every token's sum runs in the order of its experts.
struct MoeArgs {
  Tensor residual;  // in and out [tokens, hidden]
  Norm norm;
  LinearWeight router;  // [experts, hidden]
  Tensor router_bias;   // f32 [experts] or empty: added to the scores for the choice, not to the weights (DeepSeek-V3)
  Routing routing;
  LinearWeight up;    // [2 * experts * inter, hidden]: the gate rows of all experts, then the up rows of all
  LinearWeight down;  // [experts * hidden, inter]
  Activation activation = Activation::kSilu;
};

// Final norm and vocabulary product for the rows that need logits.
struct HeadArgs {
  Tensor residual;  // [tokens, hidden]
  Tensor row;       // i32 [rows] which tokens
  Norm norm;
  LinearWeight weight;  // [vocab, hidden]
  Tensor bias;          // f32 [vocab] or empty
  float scale = 1;      // of the logits
  float softcap = 0;
  Tensor logits;  // out f32 [rows, vocab]
  // Not 0: all that is read of a row is its highest logit among the first so many, by the next call of Sample, which is greedy.
  // `logits` may come out unwritten.
  int best_of = 0;
};

// Adds the final norm's output to sums, chunk by chunk: sum[slot] += Σ norm(residual[row]) over the rows begin … end - 1.
struct PoolArgs {
  Tensor residual;  // [tokens, hidden]
  Norm norm;
  Tensor begin, end;  // i32 [chunks]
  Tensor slot;        // i32 [chunks], all different
  Tensor fresh;       // i32 [chunks] 1: the sum begins with this chunk
  Tensor sum;         // in and out f32 [slots, hidden]
};

// Sampling parameters of one slot as they lie in device memory, and the defaults that change nothing.
struct SlotSampling {
  float temperature = 1;  // 0: greedy; greedy takes the lowest id among equal logits
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;             // 0: off
  float repetition_penalty = 1;  // over prompt and output (Hugging Face)
  float presence_penalty = 0;    // over output (OpenAI)
  float frequency_penalty = 0;   // over output
  int32_t logprobs = -1;         // alternatives to report; -1: none, 0: the sampled token alone
  uint64_t seed = 0;
  int32_t choice = 0;
  int32_t reserved = 0;
};

// Bit 31 of a count: the token occurs in the prompt. The rest: times it was generated.
inline constexpr uint32_t kTokenInPrompt = 0x80000000u;
inline constexpr int kMaxLogprobs = 20;

// Sequences enter slots: their sampling parameters are stored, their penalty counts start from their history.
struct AdmitArgs {
  Tensor slot;           // i32 [admits], all different
  Tensor params;         // u8 [admits, sizeof(SlotSampling)]
  Tensor history_start;  // i32 [admits + 1]: each one's part of history
  Tensor prompt_length;  // i32 [admits]: history from here on is output
  Tensor history;        // i32 [tokens]
  Tensor slot_params;    // out u8 [slots, sizeof(SlotSampling)]
  Tensor slot_counts;    // out u32 [slots, vocab]
};

// Order: bitmask and ids beyond the tokenizer → edits → repetition, presence, frequency → log-probabilities are taken here, at
// temperature 1 → temperature → top-k → top-p → min-p → draw. The draw's uniform number is Philox4x32-10 keyed by (seed,
// choice, position): never by slot or batch; it falls into the kept tokens' probabilities in order of id. Afterwards
// counts[slot][token] is incremented and last_token[slot] is the token, or 0 when there is none.
// With targets nothing is drawn and nothing stored: each row reports its target, without edits and penalties.
struct SampleArgs {
  Tensor logits;           // f32 [rows, vocab], overwritten
  Tensor slot;             // i32 [rows]
  Tensor position;         // i32 [rows] absolute position of the token that is drawn; unused with targets
  Tensor target;           // i32 [rows] below tokenizer_size, or empty
  Tensor params;           // u8 [slots, sizeof(SlotSampling)]
  Tensor counts;           // u32 [slots, vocab]
  Tensor last_token;       // out i32 [slots] or empty
  Tensor edit_start;       // i32 [rows + 1]: CSR of (token, value) added to logits; -inf bans. Empty: none
  Tensor edit_token;       // i32 [edits]
  Tensor edit_value;       // f32 [edits]
  Tensor bitmask;          // u32 [rows, ceil(vocab / 32)], bit set = allowed, or empty
  int tokenizer_size = 0;  // ids from here on are never drawn
  bool greedy = false;     // all rows are, without penalties or log-probabilities, and nothing above changes a logit
  Tensor token;            // out i32 [rows]; -1: the row has a NaN, or nothing is allowed
  Tensor logprob;          // out f32 [rows] of the drawn token
  Tensor top_token;        // out i32 [rows, kMaxLogprobs], by falling probability, or empty
  Tensor top_logprob;      // out f32 [rows, kMaxLogprobs]
};

// One backend: a queue of calls that run in order. Public methods check shapes and dtypes, which are our own bugs when wrong,
// and call the backend. Results may be read after Sync() or after a mark behind them. Thread: one at a time; another that takes
// over calls Attach() first.
class Ops {
 public:
  static constexpr int kMarks = 4;

  virtual ~Ops() = default;

  virtual void Attach() = 0;

  void Embed(const EmbedArgs& args);
  void Gather(const GatherArgs& args);
  void AttnIn(const AttnInArgs& args);
  void LatentIn(const LatentInArgs& args);
  void Attend(const AttendArgs& args);
  void LatentOut(const LatentOutArgs& args);
  void AttnOut(const ProjectOutArgs& args);
  void MlpUp(const MlpUpArgs& args);
  void MlpDown(const ProjectOutArgs& args);
  void Moe(const MoeArgs& args);
  void Head(const HeadArgs& args);
  void Pool(const PoolArgs& args);
  void Admit(const AdmitArgs& args);
  void Sample(const SampleArgs& args);

  // Copies between host and device that take their turn in the queue. The host's side is left alone until they are done; only
  // from the backend's staging memory does the call return before.
  virtual void Upload(void* device, const void* host, size_t bytes) = 0;
  virtual void Download(void* host, const void* device, size_t bytes) = 0;

  // Sets mark 0 … kMarks - 1 behind everything queued so far. Wait returns when the queue has passed it, with the fault of any
  // call so far.
  virtual void Mark(int mark) = 0;
  virtual absl::Status Wait(int mark) = 0;

  // Stage ops between the two are not run but recorded under the number that is returned. Replay queues them again, with the
  // same tensors. Everything that a recorded op finds out on the host, such as the size of its grid, stays as it was.
  virtual void BeginRecording() = 0;
  virtual absl::StatusOr<int> EndRecording() = 0;
  virtual void Replay(int recording) = 0;

  // Stage ops between the two are all of a step that is queued once and runs so long that its later ops may be recorded and
  // queued together while the first ones run. At most kMarks such steps are under way.
  virtual void BeginOnce() {}
  virtual void EndOnce() {}

  // Waits for everything queued; a device fault of any call since the last Sync surfaces here.
  virtual absl::Status Sync() = 0;

 private:
  virtual void DoEmbed(const EmbedArgs& args) = 0;
  virtual void DoGather(const GatherArgs& args) = 0;
  virtual void DoAttnIn(const AttnInArgs& args) = 0;
  virtual void DoLatentIn(const LatentInArgs& args) = 0;
  virtual void DoAttend(const AttendArgs& args) = 0;
  virtual void DoLatentOut(const LatentOutArgs& args) = 0;
  virtual void DoProjectOut(const ProjectOutArgs& args) = 0;
  virtual void DoMlpUp(const MlpUpArgs& args) = 0;
  virtual void DoMoe(const MoeArgs& args) = 0;
  virtual void DoHead(const HeadArgs& args) = 0;
  virtual void DoPool(const PoolArgs& args) = 0;
  virtual void DoAdmit(const AdmitArgs& args) = 0;
  virtual void DoSample(const SampleArgs& args) = 0;
};

}  // namespace berth::kernels
