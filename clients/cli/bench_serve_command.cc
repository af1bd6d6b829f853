#include "clients/cli/bench_serve_command.h"

#include <algorithm>
#include <climits>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_plot.h"

namespace berth::cli {

void AddServeBenchFlags(CLI::App& app, ServeBenchFlags& flags) {
  ServeBenchOptions& bench = flags.bench;
  app.add_option("--server", bench.target.server,
                 "host:port of a gateway's gRPC API, or http://host:port of a server of OpenAI's completions")
      ->capture_default_str();
  app.add_option("--model", bench.target.model, "Its name there; none, over gRPC: the only one");
  app.add_option("--api-key", bench.target.api_key, "Key for the server");
  app.add_option("--loads", flags.loads, absl::StrCat("As of bench engine; without a sweep: ", kUsualLoad));
  app.add_option("--request-rate", flags.sweep.request_rates, "Sweep: requests a second, with Poisson arrivals: 1,2,4")
      ->delimiter(',');
  app.add_option("--concurrency", flags.sweep.concurrencies, "Sweep: requests in flight: 1,8,64")->delimiter(',');
  app.add_option("--replay", flags.sweep.replay,
                 "Sweep: at the times of a trace of [prompt, output, seconds], so many times as fast");
  app.add_option("--num-prompts", flags.sweep.requests, "Requests, or conversations, of each row of a sweep")
      ->capture_default_str();
  app.add_option("--input-len", flags.sweep.prompt, "Tokens of each of their prompts; 0: as the trace has them");
  app.add_option("--output-len", flags.sweep.output, "And of their answers");
  app.add_option("--prefix-len", flags.sweep.prefix, "Tokens before each of their prompts, which others have too");
  app.add_option("--prefixes", flags.sweep.prefixes, "So many different ones")->capture_default_str();
  app.add_option("--turns", flags.sweep.turns,
                 "Of conversations in a session each, which carry on with what was answered: lengths "
                 "of prompts are in words then")
      ->capture_default_str();
  app.add_option("--seed", flags.sweep.seed, "Of the arrivals")->capture_default_str();
  app.add_option("--slo-ttft", bench.objective.ttft, "For goodput: ms to the first token of a request")
      ->check(CLI::PositiveNumber);
  app.add_option("--slo-itl", bench.objective.tpot, "For goodput: ms between a request's tokens, on average")
      ->check(CLI::PositiveNumber);
  app.add_option("--plot", flags.plot, "Write an SVG of latency against throughput to this file");
  app.add_option("--repeats", bench.repeats, "Measured runs of every load")->capture_default_str();
  app.add_option("--threads", bench.threads, "That read streams, each with a connection of its own")->capture_default_str();
  app.add_option("--vocab", bench.vocab, "Ids that prompts are drawn from end before this one")->capture_default_str();
  app.add_option("--trace", flags.trace, "JSON list of [prompt, output] lengths, or [prompt, output, seconds]")
      ->capture_default_str();
  app.add_option("--arrivals", flags.arrivals, "JSON list of arrival times in mean gaps")->capture_default_str();
}

namespace {

absl::StatusOr<std::vector<BenchLoad>> LoadsOf(const ServeBenchFlags& flags) {
  const Sweep& sweep = flags.sweep;
  const bool sweeps = !sweep.request_rates.empty() || !sweep.concurrencies.empty() || sweep.replay != 0;
  std::vector<BenchLoad> loads;
  if (!flags.loads.empty() || !sweeps) {
    const std::string& list = flags.loads.empty() ? kUsualLoad : flags.loads;
    BERTH_ASSIGN_OR_RETURN(const TraceFiles files, ReadTraceFiles(list, flags.trace, flags.arrivals));
    BERTH_ASSIGN_OR_RETURN(loads, ParseLoads(list, files));
  }
  if (!sweeps) return loads;
  std::vector<TraceRequest> trace;
  if (sweep.prompt == 0 || sweep.replay != 0) {
    BERTH_ASSIGN_OR_RETURN(trace, ReadTrace(flags.trace, INT_MAX, 1));
  }
  BERTH_ASSIGN_OR_RETURN(std::vector<BenchLoad> rows, SweepLoads(sweep, trace));
  std::move(rows.begin(), rows.end(), std::back_inserter(loads));
  return loads;
}

}  // namespace

absl::Status RunServeBenchCommand(ServeBenchFlags& flags) {
  BERTH_ASSIGN_OR_RETURN(flags.bench.loads, LoadsOf(flags));
  std::ofstream plot;
  if (!flags.plot.empty()) {
    plot.open(flags.plot);
    if (!plot) return absl::InvalidArgumentError(absl::StrCat("cannot write ", flags.plot));
  }
  EngineBenchReport report{
      .model = flags.bench.target.model, .device = flags.bench.target.server, .repeats = flags.bench.repeats};
  BERTH_ASSIGN_OR_RETURN(
      report.rows, RunServeBench(flags.bench, [](const LoadRow& row) { std::cerr << FormatRow(row) + "\n"
                                                                                 << std::flush; }));
  std::cout << ToJson(report) << std::endl;
  if (!flags.plot.empty()) plot << PlotSvg(report.rows);
  return absl::OkStatus();
}

}  // namespace berth::cli
