#include "kernels/ops.h"

#include <initializer_list>

#include "absl/types/span.h"
#include "base/check.h"

namespace berth::kernels {
namespace {

bool IsActivation(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

// The shape is `shape`, the last dimension is contiguous, and there is memory unless there are no elements.
void CheckShape(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  bool same = tensor.rank() == static_cast<int>(shape.size());
  for (int i = 0; same && i < tensor.rank(); ++i) same = tensor.dim(i) == shape.begin()[i];
  BERTH_CHECK(same) << name << " is " << tensor.DebugString() << ", want "
                    << Tensor(tensor.raw(), tensor.dtype(), shape).DebugString();
  BERTH_CHECK(tensor.elements() == 0 || !tensor.empty()) << name << " is " << tensor.DebugString();
  BERTH_CHECK(tensor.stride(tensor.rank() - 1) == 1) << name << " is not contiguous in its last dimension";
}

void CheckTensor(const char* name, const Tensor& tensor, DType dtype, std::initializer_list<int64_t> shape) {
  BERTH_CHECK(tensor.dtype() == dtype) << name << " is " << tensor.DebugString() << ", want " << Info(dtype).name;
  CheckShape(name, tensor, shape);
}

void CheckActivation(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  BERTH_CHECK(IsActivation(tensor.dtype())) << name << " is " << tensor.DebugString();
  CheckShape(name, tensor, shape);
}

void CheckOptional(const char* name, const Tensor& tensor, DType dtype, std::initializer_list<int64_t> shape) {
  if (!tensor.empty()) CheckTensor(name, tensor, dtype, shape);
}

void CheckNorm(const char* name, const Norm& norm, int64_t dim) {
  CheckOptional(name, norm.weight, DType::kF32, {dim});
  CheckOptional(name, norm.bias, DType::kF32, {dim});
}

void CheckWeight(const char* name, const LinearWeight& weight, int64_t n, int64_t k) {
  BERTH_CHECK(weight.n() == n && weight.k == k)
      << name << " is [" << weight.n() << ", " << weight.k << "], want [" << n << ", " << k << "]";
  for (const LinearWeight::Segment& segment : weight.segments) {
    BERTH_CHECK(segment.data != nullptr || segment.rows == 0) << name << " has a segment without data";
    BERTH_CHECK(IsActivation(segment.dtype) || IsQuantized(segment.dtype)) << name << " is " << Info(segment.dtype).name;
    BERTH_CHECK(k % Info(segment.dtype).block_elements == 0) << name << ": k = " << k << " of " << Info(segment.dtype).name;
  }
}

// Of a product [n, k].
void CheckAdapter(const ImageAdapter& adapter, int64_t n, int64_t k) {
  if (adapter.row.empty()) return;
  BERTH_CHECK(adapter.row.rank() == 1) << "image rows are " << adapter.row.DebugString();
  CheckTensor("image rows", adapter.row, DType::kI32, {adapter.row.dim(0)});
  if (adapter.down.empty()) return;
  const int64_t rank = adapter.up.k, parts = rank == 0 ? 0 : adapter.down.n() / rank;
  BERTH_CHECK(parts > 0 && n % parts == 0) << "an adapter of " << adapter.down.n() << " and " << rank << " for " << n
                                           << " rows";
  CheckWeight("adapter's down", adapter.down, parts * rank, k);
  CheckWeight("adapter's up", adapter.up, n, rank);
}

void CheckBatch(const Batch& batch) {
  CheckTensor("position", batch.position, DType::kI32, {batch.tokens});
  CheckTensor("sequence_of", batch.sequence_of, DType::kI32, {batch.tokens});
  CheckTensor("query_start", batch.query_start, DType::kI32, {batch.sequences + 1});
  CheckTensor("context_length", batch.context_length, DType::kI32, {batch.sequences});
  CheckOptional("rope_variant", batch.rope_variant, DType::kI32, {batch.sequences});
  BERTH_CHECK(batch.block_table.rank() == 2) << "block_table is " << batch.block_table.DebugString();
  CheckTensor("block_table", batch.block_table, DType::kI32, {batch.sequences, batch.block_table.dim(1)});
}

void CheckKv(const KvLayer& kv) {
  BERTH_CHECK(kv.base != nullptr && kv.kv_heads > 0 && kv.key_dim > 0 && kv.value_dim > 0)
      << kv.kv_heads << " heads of " << kv.key_dim << " and " << kv.value_dim;
  BERTH_CHECK(IsActivation(kv.dtype)) << "KV is " << Info(kv.dtype).name;
}

void CheckRope(const Rope& rope, int64_t dim) {
  const Tensor& frequency = rope.inverse_frequency;
  if (frequency.empty()) return;
  BERTH_CHECK(frequency.rank() == 2 && frequency.dim(1) * 2 <= dim) << "rope is " << frequency.DebugString();
  CheckTensor("rope", frequency, DType::kF32, {frequency.dim(0), frequency.dim(1)});
}

// One i32 per slot, or empty.
void CheckSlots(const char* name, const Tensor& tensor) {
  if (tensor.empty()) return;
  BERTH_CHECK(tensor.rank() == 1) << name << " is " << tensor.DebugString();
  CheckTensor(name, tensor, DType::kI32, {tensor.dim(0)});
}

void CheckProjectOut(const ProjectOutArgs& args) {
  BERTH_CHECK(args.in.rank() == 2 && args.residual.rank() == 2) << args.in.DebugString() << ", " << args.residual.DebugString();
  const int64_t tokens = args.residual.dim(0), hidden = args.residual.dim(1);
  CheckActivation("residual", args.residual, {tokens, hidden});
  CheckActivation("in", args.in, {tokens, args.weight.k});
  CheckWeight("weight", args.weight, hidden, args.weight.k);
  CheckAdapter(args.adapter, hidden, args.weight.k);
  CheckOptional("bias", args.bias, DType::kF32, {hidden});
  CheckNorm("post_norm", args.post_norm, hidden);
}

}  // namespace

void Ops::Embed(const EmbedArgs& args) {
  BERTH_CHECK(args.token.rank() == 1) << args.token.DebugString();
  const int64_t tokens = args.token.dim(0);
  CheckTensor("token", args.token, DType::kI32, {tokens});
  CheckSlots("last_token", args.last_token);
  CheckActivation("out", args.out, {tokens, args.table.k});
  CheckWeight("table", args.table, args.table.n(), args.table.k);
  if (tokens > 0) DoEmbed(args);
}

void Ops::Gather(const GatherArgs& args) {
  BERTH_CHECK(args.in.rank() == 2 && args.row.rank() == 1) << args.in.DebugString() << ", " << args.row.DebugString();
  const int64_t rows = args.row.dim(0);
  CheckActivation("in", args.in, {args.in.dim(0), args.in.dim(1)});
  CheckTensor("row", args.row, DType::kI32, {rows});
  CheckTensor("out", args.out, args.in.dtype(), {rows, args.in.dim(1)});
  if (rows > 0) DoGather(args);
}

void Ops::AttnIn(const AttnInArgs& args) {
  const int64_t tokens = args.batch.tokens;
  const int64_t n = (args.q_heads + 2 * args.kv_heads) * static_cast<int64_t>(args.head_dim);
  CheckActivation("residual", args.residual, {tokens, args.qkv.k});
  CheckActivation("q", args.q, {tokens, args.q_heads, args.head_dim});
  CheckWeight("qkv", args.qkv, n, args.qkv.k);
  CheckAdapter(args.adapter, n, args.qkv.k);
  CheckOptional("bias", args.bias, DType::kF32, {n});
  CheckNorm("norm", args.norm, args.qkv.k);
  CheckNorm("q_norm", args.q_norm, args.head_dim);
  CheckNorm("k_norm", args.k_norm, args.head_dim);
  CheckBatch(args.batch);
  CheckKv(args.kv);
  BERTH_CHECK((args.kv_heads == 0 || args.kv.kv_heads == args.kv_heads) && args.kv.key_dim == args.head_dim &&
              args.kv.value_dim == args.head_dim && !args.kv.values_in_keys)
      << "KV of " << args.kv.kv_heads << " heads of " << args.kv.key_dim << " and " << args.kv.value_dim;
  CheckRope(args.rope, args.head_dim);
  if (tokens > 0) DoAttnIn(args);
}

void Ops::LatentIn(const LatentInArgs& args) {
  const int64_t tokens = args.batch.tokens, hidden = args.latent.k, row = args.kv.key_dim;
  const int64_t q_rank = args.q_down.empty() ? hidden : args.q_down.n();
  CheckBatch(args.batch);
  CheckKv(args.kv);
  BERTH_CHECK(args.kv.kv_heads == 1 && args.rank < row && args.kv.value_dim == args.rank && args.kv.values_in_keys)
      << "KV of " << args.kv.kv_heads << " heads of " << row << " and " << args.kv.value_dim << " for rank " << args.rank;
  CheckActivation("residual", args.residual, {tokens, hidden});
  CheckActivation("q_out", args.q_out, {tokens, args.heads, row});
  if (!args.q_down.empty()) CheckWeight("q_down", args.q_down, q_rank, hidden);
  CheckWeight("q", args.q, args.heads * (args.key_dim + row - args.rank), q_rank);
  CheckWeight("latent", args.latent, row, hidden);
  CheckWeight("up", args.up, static_cast<int64_t>(args.heads) * (args.key_dim + args.value_dim), args.rank);
  CheckNorm("norm", args.norm, hidden);
  CheckNorm("q_down_norm", args.q_down_norm, q_rank);
  CheckNorm("latent_norm", args.latent_norm, args.rank);
  CheckRope(args.rope, row - args.rank);
  if (tokens > 0) DoLatentIn(args);
}

void Ops::LatentOut(const LatentOutArgs& args) {
  BERTH_CHECK(args.in.rank() == 3) << args.in.DebugString();
  const int64_t tokens = args.in.dim(0), heads = args.in.dim(1);
  CheckActivation("in", args.in, {tokens, heads, args.up.k});
  CheckActivation("out", args.out, {tokens, heads, args.value_dim});
  CheckWeight("up", args.up, heads * (args.key_dim + args.value_dim), args.up.k);
  if (tokens > 0) DoLatentOut(args);
}

void Ops::Attend(const AttendArgs& args) {
  BERTH_CHECK(args.q.rank() == 3) << args.q.DebugString();
  const int64_t heads = args.q.dim(1);
  CheckKv(args.kv);
  CheckActivation("q", args.q, {args.batch.tokens, heads, args.kv.key_dim});
  CheckActivation("out", args.out, {args.batch.tokens, heads, args.kv.value_dim});
  BERTH_CHECK(heads % args.kv.kv_heads == 0) << heads << " query heads, " << args.kv.kv_heads << " kv heads";
  CheckOptional("alibi_slope", args.alibi_slope, DType::kF32, {heads});
  CheckBatch(args.batch);
  if (args.batch.tokens > 0) DoAttend(args);
}

void Ops::AttnOut(const ProjectOutArgs& args) {
  CheckProjectOut(args);
  if (args.residual.dim(0) > 0) DoProjectOut(args);
}

void Ops::MlpUp(const MlpUpArgs& args) {
  BERTH_CHECK(args.out.rank() == 2) << args.out.DebugString();
  const int64_t tokens = args.out.dim(0), inter = args.out.dim(1), n = args.gated ? 2 * inter : inter;
  CheckActivation("residual", args.residual, {tokens, args.weight.k});
  CheckActivation("out", args.out, {tokens, inter});
  CheckWeight("weight", args.weight, n, args.weight.k);
  CheckAdapter(args.adapter, n, args.weight.k);
  CheckOptional("bias", args.bias, DType::kF32, {n});
  CheckNorm("norm", args.norm, args.weight.k);
  if (!args.row_gate.empty()) CheckWeight("row_gate", args.row_gate, 1, args.weight.k);
  if (tokens > 0) DoMlpUp(args);
}

void Ops::Moe(const MoeArgs& args) {
  BERTH_CHECK(args.residual.rank() == 2) << args.residual.DebugString();
  const int64_t tokens = args.residual.dim(0), hidden = args.residual.dim(1), experts = args.routing.experts;
  const Routing& routing = args.routing;
  BERTH_CHECK(routing.top_k > 0 && routing.top_k <= experts && routing.groups > 0 && experts % routing.groups == 0 &&
              routing.top_groups > 0 && routing.top_groups <= routing.groups &&
              routing.top_k <= experts / routing.groups * routing.top_groups && routing.group_best > 0 &&
              routing.group_best <= experts / routing.groups)
      << routing.top_k << " of " << experts << " experts, " << routing.top_groups << " of " << routing.groups << " groups";
  CheckActivation("residual", args.residual, {tokens, hidden});
  CheckNorm("norm", args.norm, hidden);
  CheckWeight("router", args.router, experts, hidden);
  CheckOptional("router_bias", args.router_bias, DType::kF32, {experts});
  CheckWeight("up", args.up, 2 * experts * args.down.k, hidden);
  CheckWeight("down", args.down, experts * hidden, args.down.k);
  if (tokens > 0) DoMoe(args);
}

void Ops::MlpDown(const ProjectOutArgs& args) {
  CheckProjectOut(args);
  if (args.residual.dim(0) > 0) DoProjectOut(args);
}

void Ops::Head(const HeadArgs& args) {
  BERTH_CHECK(args.residual.rank() == 2 && args.row.rank() == 1)
      << args.residual.DebugString() << ", " << args.row.DebugString();
  const int64_t rows = args.row.dim(0), vocab = args.weight.n();
  CheckActivation("residual", args.residual, {args.residual.dim(0), args.weight.k});
  CheckTensor("row", args.row, DType::kI32, {rows});
  CheckTensor("logits", args.logits, DType::kF32, {rows, vocab});
  CheckWeight("weight", args.weight, vocab, args.weight.k);
  CheckOptional("bias", args.bias, DType::kF32, {vocab});
  CheckNorm("norm", args.norm, args.weight.k);
  BERTH_CHECK(args.best_of >= 0 && args.best_of <= vocab) << args.best_of << " of " << vocab;
  if (rows > 0) DoHead(args);
}

void Ops::Pool(const PoolArgs& args) {
  BERTH_CHECK(args.residual.rank() == 2 && args.slot.rank() == 1 && args.sum.rank() == 2)
      << args.residual.DebugString() << ", " << args.slot.DebugString() << ", " << args.sum.DebugString();
  const int64_t chunks = args.slot.dim(0), hidden = args.residual.dim(1);
  CheckActivation("residual", args.residual, {args.residual.dim(0), hidden});
  CheckNorm("norm", args.norm, hidden);
  CheckTensor("begin", args.begin, DType::kI32, {chunks});
  CheckTensor("end", args.end, DType::kI32, {chunks});
  CheckTensor("slot", args.slot, DType::kI32, {chunks});
  CheckTensor("fresh", args.fresh, DType::kI32, {chunks});
  CheckTensor("sum", args.sum, DType::kF32, {args.sum.dim(0), hidden});
  if (chunks > 0) DoPool(args);
}

void Ops::Admit(const AdmitArgs& args) {
  BERTH_CHECK(args.slot.rank() == 1 && args.history.rank() == 1 && args.slot_counts.rank() == 2)
      << args.slot.DebugString() << ", " << args.history.DebugString() << ", " << args.slot_counts.DebugString();
  const int64_t admits = args.slot.dim(0), slots = args.slot_counts.dim(0);
  const auto params = static_cast<int64_t>(sizeof(SlotSampling));
  CheckTensor("slot", args.slot, DType::kI32, {admits});
  CheckTensor("params", args.params, DType::kU8, {admits, params});
  CheckTensor("history_start", args.history_start, DType::kI32, {admits + 1});
  CheckTensor("prompt_length", args.prompt_length, DType::kI32, {admits});
  CheckTensor("history", args.history, DType::kI32, {args.history.dim(0)});
  CheckTensor("slot_params", args.slot_params, DType::kU8, {slots, params});
  CheckTensor("slot_counts", args.slot_counts, DType::kU32, {slots, args.slot_counts.dim(1)});
  if (admits > 0) DoAdmit(args);
}

void Ops::Sample(const SampleArgs& args) {
  BERTH_CHECK(args.logits.rank() == 2 && args.params.rank() == 2)
      << args.logits.DebugString() << ", " << args.params.DebugString();
  const int64_t rows = args.logits.dim(0), vocab = args.logits.dim(1), slots = args.params.dim(0);
  CheckTensor("logits", args.logits, DType::kF32, {rows, vocab});
  CheckTensor("slot", args.slot, DType::kI32, {rows});
  if (args.target.empty()) CheckTensor("position", args.position, DType::kI32, {rows});
  CheckOptional("target", args.target, DType::kI32, {rows});
  CheckTensor("params", args.params, DType::kU8, {slots, static_cast<int64_t>(sizeof(SlotSampling))});
  CheckTensor("counts", args.counts, DType::kU32, {slots, vocab});
  CheckOptional("last_token", args.last_token, DType::kI32, {slots});
  CheckOptional("edit_start", args.edit_start, DType::kI32, {rows + 1});
  CheckOptional("bitmask", args.bitmask, DType::kU32, {rows, (vocab + 31) / 32});
  BERTH_CHECK(!args.greedy || (args.target.empty() && args.edit_start.empty() && args.bitmask.empty()))
      << "greedy, and yet logits are changed";
  BERTH_CHECK(args.tokenizer_size >= 0 && args.tokenizer_size <= vocab) << args.tokenizer_size << " of " << vocab;
  CheckTensor("token", args.token, DType::kI32, {rows});
  CheckTensor("logprob", args.logprob, DType::kF32, {rows});
  CheckOptional("top_token", args.top_token, DType::kI32, {rows, kMaxLogprobs});
  if (!args.top_token.empty()) CheckTensor("top_logprob", args.top_logprob, DType::kF32, {rows, kMaxLogprobs});
  if (rows > 0) DoSample(args);
}

}  // namespace berth::kernels
