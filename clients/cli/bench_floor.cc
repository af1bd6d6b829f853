#include "clients/cli/bench_floor.h"

#include <algorithm>

#include "absl/status/status.h"
#include "worker/loader/slot_members.h"

namespace berth::cli {
namespace {

constexpr double kElementBytes = 2;

struct ModelCost {
  double body = 0;             // elements of all matrices that every token is multiplied with
  double head = 0;             // … only tokens whose logits are wanted
  double kv_bytes = 0;         // of one token
  double attention_flops = 0;  // of one query and one key
};

ModelCost CostOf(const model::DecoderSpec& spec) {
  ModelCost cost;
  const absl::Status status = loader::ForEachSlot(spec, [&](model::Slot slot, int layer, const model::SlotShape& shape) {
    const double elements = static_cast<double>(shape.rows()) * static_cast<double>(shape.columns);
    if (slot == model::Slot::kHead) {
      cost.head = elements;
    } else if (slot != model::Slot::kEmbed && !model::Info(slot).adapter) {
      cost.body += elements;
    }
    return absl::OkStatus();
  });
  status.IgnoreError();  // the visitor has none
  for (const model::LayerSpec& layer : spec.layers) {
    cost.kv_bytes += static_cast<double>(layer.attention.kv_elements()) * kElementBytes;
    cost.attention_flops += 4.0 * layer.attention.q_heads * layer.attention.head_dim;
  }
  return cost;
}

double PromptFlops(const ModelCost& cost, double tokens) {
  return 2 * cost.body * tokens + 2 * cost.head + cost.attention_flops * tokens * (tokens + 1) / 2;
}

}  // namespace

Floor ComputeFloor(const model::DecoderSpec& spec, const std::vector<BenchRequest>& requests, int in_flight,
                   const Ceilings& ceilings) {
  struct Running {
    double context;
    int left;
  };
  const ModelCost cost = CostOf(spec);
  const double weights = (cost.body + cost.head) * kElementBytes;
  Floor floor;
  std::vector<Running> running;
  double serial = 0, overlapped = 0, tokens = 0;
  int steps = 0;
  for (size_t next = 0; next < requests.size() || !running.empty();) {
    double prompt_flops = 0;
    for (; next < requests.size() && (in_flight == 0 || static_cast<int>(running.size()) < in_flight); ++next) {
      prompt_flops += PromptFlops(cost, requests[next].prompt);
      running.push_back({static_cast<double>(requests[next].prompt), requests[next].output - 1});
      tokens += requests[next].output;
    }
    std::erase_if(running, [](const Running& row) { return row.left == 0; });
    const double rows = static_cast<double>(running.size());
    double kv = 0;
    for (Running& row : running) {
      kv += row.context++ * cost.kv_bytes;
      --row.left;
    }
    std::erase_if(running, [](const Running& row) { return row.left == 0; });
    const double bandwidth = rows <= kSmallBatch ? ceilings.small_bandwidth : ceilings.bandwidth;
    const double read = rows > 0 ? weights : 0, flops = 2 * (cost.body + cost.head) * rows;
    const double step = std::max(read / bandwidth, flops / ceilings.flops) + kv / bandwidth;
    serial += prompt_flops / ceilings.flops + step;
    overlapped += std::max((read + kv) / bandwidth, (prompt_flops + flops) / ceilings.flops);
    if (rows == 0) continue;
    ++steps;
    floor.step_bytes += read + kv;
    floor.step_flops += flops + kv / cost.kv_bytes * cost.attention_flops;
    floor.token_ms += 1e3 * step;
  }
  if (steps > 0) {
    floor.step_bytes /= steps;
    floor.step_flops /= steps;
    floor.token_ms /= steps;
  }
  floor.serial = tokens / serial;
  floor.overlapped = tokens / overlapped;
  if (!requests.empty()) {
    floor.first_ms = 1e3 * std::max(weights / ceilings.small_bandwidth, PromptFlops(cost, requests[0].prompt) / ceilings.flops);
  }
  return floor;
}

}  // namespace berth::cli
