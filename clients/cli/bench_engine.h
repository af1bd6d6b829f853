#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::cli {

// Lengths in tokens of one request of a trace.
struct TraceRequest {
  int prompt = 0;
  int output = 0;
};

struct EngineBenchOptions {
  std::string model;  // as for loader::LoadModel
  int threads = 2;    // of the kernels
  int repeats = 3;    // measured runs of every case, after one that warms up
  int streams = 8;    // of the case with many
  int decode_tokens = 128;
  int prompt_tokens = 512;
  std::vector<TraceRequest> trace;  // empty: no trace case
  int depth = 2;                    // plans in flight
  absl::Status Validate() const;
};

struct Figure {
  std::string name;
  std::string unit;
  double median = 0;
  double low = 0;
  double high = 0;
};

struct EngineBenchReport {
  std::string model;
  int threads = 0;
  int repeats = 0;
  int step_tokens = 0;          // the budget of a step that the warm-up found
  double ready_seconds = 0;     // loading and warm-up
  std::vector<Figure> figures;  // decode_1, decode_N, prompt_N, trace
};

// Measures the engine on the CPU without RPC: one stream, many streams, one long prompt, a trace that arrives all at once.
// Tokens are random, the prefix cache is off. Errors are the loader's and the executor's.
absl::StatusOr<EngineBenchReport> RunEngineBench(const EngineBenchOptions& options);

// A JSON list of [prompt, output] pairs, the first `requests` of it, lengths divided by `shorten`.
absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int requests, int shorten);

std::string ToJson(const EngineBenchReport& report);

}  // namespace berth::cli
