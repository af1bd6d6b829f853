#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "clients/cli/bench_driver.h"

namespace berth::cli {

// A number over the repeats of a case.
struct Figure {
  std::string name;
  std::string unit;
  double median = 0;
  double low = 0;
  double high = 0;
};

// The median and the bounds of `values`, which are not empty.
Figure MakeFigure(const std::string& name, const std::string& unit, std::vector<double> values);

// The figure of that name; null when there is none.
const Figure* FindFigure(const std::vector<Figure>& figures, const std::string& name);

// INTERNAL names a request that has not all tokens of output that it wants.
absl::Status CheckOutputs(const std::vector<BenchRequest>& requests, const RunTimes& times);

// Decoded tokens per second, without the step that brought the first ones.
double DecodeRate(const RunTimes& times);

// What a caller wants of a request; 0: nothing. In ms.
struct Objective {
  double ttft = 0, tpot = 0;
  bool any() const { return ttft > 0 || tpot > 0; }
};

// What the runs of one load show. Times in ms:
//   request_rate, output_rate, total_rate   per second of the whole run
//   decode_rate                             tokens after the last request's first token, per second
//   latency, ttft, tpot, itl: _mean, _p50, _p75, _p95, _p99
//                                           from the hand-over to the last token and to the first; (last - first) / (tokens -
//                                           1) of each request that has several; gaps between a request's successive outputs
//   cached                                  share of the prompts' tokens that a server had in its cache
//   goodput                                 requests that meet the objective, per second of the whole run
//   host_step                               us that the engine thread works on a step, median
// A figure that no run has is left out.
std::vector<Figure> LoadFigures(const std::vector<BenchRequest>& requests, const std::vector<RunTimes>& runs,
                                const Objective& objective = {});

}  // namespace berth::cli
