#include "clients/cli/bench_serve_command.h"

#include <iostream>
#include <utility>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "base/status.h"

namespace berth::cli {

void AddServeBenchFlags(CLI::App& app, ServeBenchFlags& flags) {
  ServeBenchOptions& bench = flags.bench;
  app.add_option("--server", bench.server, "Gateway, host:port of its gRPC API")->capture_default_str();
  app.add_option("--model", bench.model, "Its name there; none: the only one");
  app.add_option("--loads", flags.loads, "As of bench engine")->capture_default_str();
  app.add_option("--repeats", bench.repeats, "Measured runs of every load")->capture_default_str();
  app.add_option("--threads", bench.threads, "That read streams, each with a connection of its own")->capture_default_str();
  app.add_option("--vocab", bench.vocab, "Ids that prompts are drawn from end before this one")->capture_default_str();
  app.add_option("--trace", flags.trace, "JSON list of [prompt, output] lengths")->capture_default_str();
  app.add_option("--arrivals", flags.arrivals, "JSON list of arrival times in mean gaps")->capture_default_str();
}

absl::Status RunServeBenchCommand(ServeBenchFlags& flags) {
  BERTH_ASSIGN_OR_RETURN(const TraceFiles files, ReadTraceFiles(flags.loads, flags.trace, flags.arrivals));
  BERTH_ASSIGN_OR_RETURN(flags.bench.loads, ParseLoads(flags.loads, files));
  EngineBenchReport report{.model = flags.bench.model, .device = flags.bench.server, .repeats = flags.bench.repeats};
  BERTH_ASSIGN_OR_RETURN(report.rows,
                         RunServeBench(flags.bench, [](const LoadRow& row) { std::cerr << FormatRow(row) << std::endl; }));
  std::cout << ToJson(report) << std::endl;
  return absl::OkStatus();
}

}  // namespace berth::cli
