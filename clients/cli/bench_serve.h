#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "clients/cli/bench_caller.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_report.h"

namespace berth::cli {

struct ServeBenchOptions {
  BenchTarget target;
  std::vector<BenchLoad> loads;
  int repeats = 3;  // measured runs of every load, after one that is discarded
  int threads = 4;  // that read streams, over gRPC each with a connection of its own
  Objective objective;
  int vocab = 256;  // ids that prompts are drawn from: 3 … vocab - 1
  absl::Status Validate() const;
};

// Measures a server as its callers see it: one stream per request, greedy, no token ends an answer, prompts are fresh random
// ids and conversations random words. Requests are handed over and their times count as EngineDriver's. `on_row` hears of every
// load as it is done. Errors are the server's, or a request that did not end at its output's length.
absl::StatusOr<std::vector<LoadRow>> RunServeBench(const ServeBenchOptions& options,
                                                   const std::function<void(const LoadRow&)>& on_row = {},
                                                   const base::Clock& clock = base::SystemClock());

}  // namespace berth::cli
