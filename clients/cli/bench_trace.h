#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::cli {

// Lengths in tokens of one request of a trace.
struct TraceRequest {
  int prompt = 0;
  int output = 0;
  double seconds = -1;  // when it came, after the trace's begin; negative: not known
};

// In the place of a path: the file of tests/bench, which the program holds.
inline constexpr char kBuiltIn[] = "built-in";

// A JSON list of [prompt, output] or [prompt, output, seconds], the first `requests` of it, lengths divided by `shorten`.
// Seconds never fall.
absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int requests, int shorten);

// A JSON list of times that never fall, in units of the mean gap.
absl::StatusOr<std::vector<double>> ReadArrivals(const std::string& path);

}  // namespace berth::cli
