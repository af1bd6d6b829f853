#include "tests/support/decoder_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/model/decoder.h"
#include "worker/model/tensor_arena.h"
#include "worker/runtime/kv_cache.h"

namespace berth::testing {

using kernels::DType;
using kernels::Tensor;

std::vector<std::vector<float>> PromptLogits(const model::DecoderSpec& spec, const model::DecoderWeights& weights,
                                             const std::vector<int32_t>& tokens, int step_tokens,
                                             const std::vector<int>& image_positions) {
  runtime::RunnerDevice device{.ops = kernels::MakeCpuOps({})};
  return PromptLogits(spec, weights, tokens, step_tokens, device, DType::kF32, image_positions);
}

std::vector<std::vector<float>> PromptLogits(const model::DecoderSpec& spec, const model::DecoderWeights& weights,
                                             const std::vector<int32_t>& tokens, int step_tokens, runtime::RunnerDevice& device,
                                             DType dtype, const std::vector<int>& image_positions) {
  const int count = static_cast<int>(tokens.size());
  const int blocks = (count + 63) / 64;
  kernels::Ops& ops = *device.ops;
  kernels::Allocator& memory = device.memory == nullptr ? kernels::HostAllocator() : *device.memory;
  const absl::StatusOr<runtime::KvCache> kv = runtime::KvCache::Create(spec, dtype, blocks, memory);
  BERTH_CHECK(kv.ok()) << kv.status();
  const auto decoder =
      model::Decoder::Create(spec, weights, ops, memory, {.max_tokens = count, .max_last_rows = 1, .dtype = dtype});
  BERTH_CHECK(decoder.ok()) << decoder.status();
  Tensor token, position, sequence_of, start, length, variant, table, image_row, last_row, last_start, logits;
  const absl::StatusOr<kernels::Buffer> buffer = model::AllocateTensors(memory, {{&token, DType::kI32, count},
                                                                                 {&position, DType::kI32, count},
                                                                                 {&sequence_of, DType::kI32, count},
                                                                                 {&start, DType::kI32, 2},
                                                                                 {&length, DType::kI32, 1},
                                                                                 {&variant, DType::kI32, 1},
                                                                                 {&table, DType::kI32, 1, blocks},
                                                                                 {&image_row, DType::kI32, count},
                                                                                 {&last_row, DType::kI32, 1},
                                                                                 {&last_start, DType::kI32, 2},
                                                                                 {&logits, DType::kF32, count, spec.vocab}});
  BERTH_CHECK(buffer.ok()) << buffer.status();
  const auto sync = [&] {
    const absl::Status status = ops.Sync();
    BERTH_CHECK(status.ok()) << status;
  };
  const auto put = [&](const Tensor& to, const std::vector<int32_t>& values) {
    ops.Upload(to.raw(), values.data(), sizeof(int32_t) * to.elements());
    sync();
  };
  std::vector<int32_t> rising(std::max(count, blocks));
  std::iota(rising.begin(), rising.end(), 0);
  put(token, tokens);
  put(last_start, {0, 1});
  put(position, rising);
  put(table, rising);
  const auto& lengths = spec.rope_lengths;
  put(variant, {static_cast<int32_t>(std::lower_bound(lengths.begin(), lengths.end(), count) - lengths.begin())});
  const int most = step_tokens > 0 ? step_tokens : count;
  for (int first = 0; first < count; first += most) {
    const int rows = std::min(most, count - first);
    put(start, {0, rows});
    put(length, {first + rows});
    std::vector<int32_t> image_rows;
    for (const int at : image_positions) {
      if (at >= first && at < first + rows) image_rows.push_back(at - first);
    }
    const Tensor images = image_row.Rows(0, static_cast<int64_t>(image_rows.size()));
    if (!image_rows.empty()) put(images, image_rows);
    model::DecoderInput input{.token = token.Rows(first, rows),
                              .batch = {.tokens = rows,
                                        .sequences = 1,
                                        .decode_sequences = most == 1 ? 1 : 0,
                                        .position = position.Rows(first, rows),
                                        .sequence_of = sequence_of.Rows(0, rows),
                                        .query_start = start,
                                        .context_length = length,
                                        .rope_variant = variant,
                                        .block_table = table},
                              .image_row = image_rows.empty() ? Tensor() : images,
                              .kv = kv->layers(),
                              .logit_row = position.Rows(0, rows),
                              .logits = logits.Rows(first, rows)};
    (*decoder)->Forward(input);
    if (rows > 1 && image_rows.empty()) {
      const int last = first + rows - 1;
      put(last_row, {rows - 1});
      input.last = model::LastRowsOf(input.batch, last_row, position.Rows(last, 1), last_start);
      input.logit_row = position.Rows(0, 1);
      input.logits = logits.Rows(last, 1);
      (*decoder)->Forward(input);
    }
    sync();
  }
  std::vector<float> all(logits.elements());
  ops.Download(all.data(), logits.raw(), sizeof(float) * all.size());
  sync();
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < count; ++i) rows.emplace_back(all.begin() + i * spec.vocab, all.begin() + (i + 1) * spec.vocab);
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
