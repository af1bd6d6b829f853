#pragma once

#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "clients/cli/bench_serve.h"

namespace berth::cli {

struct ServeBenchFlags {
  ServeBenchOptions bench = {.server = "127.0.0.1:23334"};
  std::string loads = "C:1000@256";
  std::string trace = "tests/bench/trace.json", arrivals = "tests/bench/arrivals.json";
};

void AddServeBenchFlags(CLI::App& app, ServeBenchFlags& flags);

// A line for each load on standard error, then all figures as JSON on standard output.
absl::Status RunServeBenchCommand(ServeBenchFlags& flags);

}  // namespace berth::cli
