#include "worker/loader/gguf_latent.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cpu/dequantize.h"

namespace berth::loader {
namespace {

using kernels::DType;

constexpr char kKeys[] = "attn_k_b.weight", kValues[] = "attn_v_b.weight", kJoined[] = "attn_kv_b.weight";

absl::Status CheckShape(const TensorInfo& tensor, const std::vector<int64_t>& want) {
  if (tensor.shape == want) return absl::OkStatus();
  return InFile(tensor.file, WrongShape(tensor, want));
}

DType JoinedType(DType keys, DType values) {
  return keys == values && (keys == DType::kF32 || keys == DType::kBF16) ? keys : DType::kF16;
}

// Per head: its `key_dim` rows of `rank`, transposed back, then its `value_dim` rows.
void FillJoined(const TensorInfo& keys, const TensorInfo& values, const model::AttentionSpec& attention, DType dtype,
                std::byte* out) {
  const int64_t rank = attention.latent.rank, key_dim = attention.latent.key_dim, value_dim = attention.latent.value_dim;
  const size_t key_bytes = kernels::RowBytes(keys.dtype, key_dim), value_bytes = kernels::RowBytes(values.dtype, rank);
  const size_t row_bytes = kernels::RowBytes(dtype, rank);
  std::vector<float> stored(key_dim), rows(key_dim * rank);
  for (int head = 0; head < attention.q_heads; ++head) {
    for (int64_t c = 0; c < rank; ++c) {
      kernels::DequantizeRow(keys.dtype, keys.data.data() + (head * rank + c) * key_bytes, stored.data(), key_dim);
      for (int64_t r = 0; r < key_dim; ++r) rows[r * rank + c] = stored[r];
    }
    for (int64_t r = 0; r < key_dim; ++r, out += row_bytes) kernels::StoreRow(&rows[r * rank], rank, dtype, out);
    for (int64_t r = 0; r < value_dim; ++r, out += row_bytes) {
      kernels::DequantizeRow(values.dtype, values.data.data() + (head * value_dim + r) * value_bytes, rows.data(), rank);
      kernels::StoreRow(rows.data(), rank, dtype, out);
    }
  }
}

}  // namespace

absl::Status JoinLatentUp(const model::DecoderSpec& spec, Checkpoint& checkpoint) {
  const model::AttentionSpec& attention = spec.layers.front().attention;
  const model::LatentSpec& latent = attention.latent;
  CheckpointIndex& tensors = checkpoint.tensors;
  if (latent.rank == 0) return absl::OkStatus();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& keys = tensors[i];
    if (!keys.name.ends_with(kKeys)) continue;
    const std::string layer = keys.name.substr(0, keys.name.size() - std::string_view(kKeys).size());
    const auto values =
        std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) { return tensor.name == layer + kValues; });
    if (values == tensors.end()) return absl::InvalidArgumentError(absl::StrCat("tensor ", layer, kValues, " is missing"));
    BERTH_RETURN_IF_ERROR(CheckShape(keys, {int64_t{attention.q_heads} * latent.rank, latent.key_dim}));
    BERTH_RETURN_IF_ERROR(CheckShape(*values, {int64_t{attention.q_heads} * latent.value_dim, latent.rank}));
    TensorInfo joined{.name = layer + kJoined,
                      .dtype = JoinedType(keys.dtype, values->dtype),
                      .shape = {int64_t{attention.q_heads} * (latent.key_dim + latent.value_dim), latent.rank},
                      .file = keys.file};
    BERTH_ASSIGN_OR_RETURN(const size_t bytes, TensorBytes(joined.dtype, joined.shape));
    const auto memory = std::make_shared<std::vector<std::byte>>(bytes);
    FillJoined(keys, *values, attention, joined.dtype, memory->data());
    joined.data = *memory;
    checkpoint.memory.push_back(memory);
    values->name.clear();
    tensors[i] = std::move(joined);
  }
  std::erase_if(tensors, [](const TensorInfo& tensor) { return tensor.name.empty(); });
  return absl::OkStatus();
}

}  // namespace berth::loader
