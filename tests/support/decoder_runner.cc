#include "tests/support/decoder_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/model/decoder.h"
#include "worker/runtime/kv_cache.h"

namespace berth::testing {

using kernels::DType;
using kernels::Tensor;

std::vector<std::vector<float>> PromptLogits(const model::DecoderSpec& spec, const model::DecoderWeights& weights,
                                             const std::vector<int32_t>& tokens, int step_tokens) {
  const int count = static_cast<int>(tokens.size());
  const int blocks = (count + 63) / 64;
  const std::unique_ptr<kernels::Ops> ops = kernels::MakeCpuOps({});
  const absl::StatusOr<runtime::KvCache> kv = runtime::KvCache::Create(spec, DType::kF32, blocks, kernels::HostAllocator());
  BERTH_CHECK(kv.ok()) << kv.status();
  const auto decoder = model::Decoder::Create(spec, weights, *ops, kernels::HostAllocator(), {.max_tokens = count});
  BERTH_CHECK(decoder.ok()) << decoder.status();

  std::vector<int32_t> token = tokens, position(count), sequence_of(count, 0), table(blocks);
  std::iota(position.begin(), position.end(), 0);
  std::iota(table.begin(), table.end(), 0);
  std::vector<float> logits(static_cast<size_t>(count) * spec.vocab);
  const auto ints = [](int32_t* data, int size) { return Tensor(data, DType::kI32, {size}); };
  const auto& lengths = spec.rope_lengths;
  const auto rope_variant = static_cast<int32_t>(std::lower_bound(lengths.begin(), lengths.end(), count) - lengths.begin());
  const int most = step_tokens > 0 ? step_tokens : count;
  for (int first = 0; first < count; first += most) {
    const int rows = std::min(most, count - first);
    std::vector<int32_t> start = {0, rows}, length = {first + rows}, variant = {rope_variant};
    (*decoder)->Forward(
        {.token = ints(token.data() + first, rows),
         .batch = {.tokens = rows,
                   .sequences = 1,
                   .position = ints(position.data() + first, rows),
                   .sequence_of = ints(sequence_of.data(), rows),
                   .query_start = ints(start.data(), 2),
                   .context_length = ints(length.data(), 1),
                   .rope_variant = ints(variant.data(), 1),
                   .block_table = Tensor(table.data(), DType::kI32, {1, blocks})},
         .kv = kv->layers(),
         .logit_row = ints(position.data(), rows),
         .logits = Tensor(logits.data() + static_cast<int64_t>(first) * spec.vocab, DType::kF32, {rows, spec.vocab})});
    const absl::Status status = ops->Sync();
    BERTH_CHECK(status.ok()) << status;
  }

  std::vector<std::vector<float>> rows;
  for (int i = 0; i < count; ++i) rows.emplace_back(logits.begin() + i * spec.vocab, logits.begin() + (i + 1) * spec.vocab);
  return rows;
}

double LargestDifference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  BERTH_CHECK(a.size() == b.size());
  double largest = 0;
  for (size_t row = 0; row < a.size(); ++row) {
    BERTH_CHECK(a[row].size() == b[row].size());
    for (size_t i = 0; i < a[row].size(); ++i) {
      const double difference = std::abs(static_cast<double>(a[row][i]) - b[row][i]);
      if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
      largest = std::max(largest, difference);
    }
  }
  return largest;
}

}  // namespace berth::testing
