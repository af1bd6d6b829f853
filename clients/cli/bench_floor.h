#pragma once

#include <vector>

#include "clients/cli/bench_driver.h"
#include "worker/model/decoder_spec.h"

namespace berth::cli {

// What the device can do at best, per second.
struct Ceilings {
  double small_bandwidth = 4.66e12;  // bytes, in steps of at most kSmallBatch rows
  double bandwidth = 4.3e12;         // bytes
  double flops = 790e12;
};
inline constexpr int kSmallBatch = 8;

// What a load costs at least, with weights, activations and KV of 2 bytes.
struct Floor {
  double step_bytes = 0;  // of a decode step, mean
  double step_flops = 0;  // of a decode step, mean
  double token_ms = 0;    // of a decode step, mean
  double first_ms = 0;    // the first prompt's first token
  double serial = 0;      // output tokens per second when products, attention and prompts take turns
  double overlapped = 0;  // … when a step takes only the longer of its bytes and its multiplications
};

// Plays a load through step by step: whoever is in flight decodes one token a step, prompts are computed as they come. A step
// reads all weights but the embedding table, once, and the KV of its rows; a product takes the longer of bytes and
// multiplications, attention its bytes. A prompt takes its multiplications, of which attention's count half (causal).
Floor ComputeFloor(const model::DecoderSpec& spec, const std::vector<BenchRequest>& requests, int in_flight,
                   const Ceilings& ceilings);

}  // namespace berth::cli
