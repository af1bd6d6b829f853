#pragma once

#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "clients/cli/bench_serve.h"
#include "clients/cli/bench_trace.h"

namespace berth::cli {

struct ServeBenchFlags {
  ServeBenchOptions bench = {.target = {.server = "127.0.0.1:23334"}};
  std::string loads;  // as of ParseLoads; "" and no sweep: kUsualLoad
  Sweep sweep;
  std::string plot;  // a file; "": none
  std::string trace = kBuiltIn, arrivals = kBuiltIn;
};

inline constexpr char kUsualLoad[] = "C:1000@256";

void AddServeBenchFlags(CLI::App& app, ServeBenchFlags& flags);

// A line for each load on standard error, then all figures as JSON on standard output, and the plot.
absl::Status RunServeBenchCommand(ServeBenchFlags& flags);

}  // namespace berth::cli
