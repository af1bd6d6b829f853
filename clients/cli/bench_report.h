#pragma once

#include <optional>
#include <string>
#include <vector>

#include "clients/cli/bench_floor.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_metrics.h"
#include "clients/cli/bench_profile.h"

namespace berth::cli {

// One load's figures (LoadFigures), and what they can be at best; open loads have no floor, nor has the CPU.
struct LoadRow {
  BenchLoad::Kind kind = BenchLoad::Kind::kOne;
  std::string name;
  std::vector<Figure> figures;
  std::optional<Floor> floor;
  std::vector<KernelTime> kernels;  // of one run, when it was profiled
};

struct EngineBenchReport {
  std::string model;
  std::string device;
  std::string dtype;  // of activations and KV
  int threads = 0;
  int repeats = 0;
  int step_tokens = 0;          // the budget of a step that the warm-up found
  double ready_seconds = 0;     // until the executor is ready, of which
  double context_seconds = 0;   // to wake the device
  double load_seconds = 0;      // to bring the weights into place
  std::vector<Figure> figures;  // decode_1, decode_N, prompt_N, trace
  std::vector<LoadRow> rows;
};

// One line: the figures that tables of this load show, the floor and the share of it that was reached.
std::string FormatRow(const LoadRow& row);

std::string ToJson(const EngineBenchReport& report);

}  // namespace berth::cli
