#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/cli/bench_device.h"
#include "clients/cli/bench_floor.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_report.h"

namespace berth::cli {

struct EngineBenchOptions {
  BenchDeviceOptions device;  // on the CPU `slots` and `session_len` come from the cases
  int repeats = 3;            // measured runs of every case, after one that is discarded
  int depth = 2;              // plans in flight
  bool profile = false;       // also time each kernel, in one run more of every load; all runs take longer

  // Empty: the four small cases of the CPU, which the fields below size.
  std::vector<BenchLoad> loads;
  Ceilings ceilings;

  int streams = 8;  // of the case with many
  int decode_tokens = 128;
  int prompt_tokens = 512;
  std::vector<TraceRequest> trace;  // empty: no trace case
  absl::Status Validate() const;
};

// Measures the engine without RPC. Without `loads`: one stream, many streams, one long prompt, a trace that arrives all at
// once. Tokens are random, the prefix cache is off. `on_row` hears of every load as it is done. Errors are the loader's and the
// executor's.
absl::StatusOr<EngineBenchReport> RunEngineBench(const EngineBenchOptions& options,
                                                 const std::function<void(const LoadRow&)>& on_row = {});

}  // namespace berth::cli
