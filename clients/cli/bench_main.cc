#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_engine.h"
#include "clients/cli/bench_shares.h"
#include "clients/cli/bench_trace.h"
#include "clients/cli/parse_line.h"

namespace berth::cli {
namespace {

constexpr size_t kKernelsShown = 15;

struct Flags {
  EngineBenchOptions bench;
  std::string trace = kBuiltIn, arrivals = kBuiltIn;
  std::string loads;
  std::vector<std::string> models;
  std::string plot, peers = "tests/bench/peers.json";
  int trace_requests = 16, shorten = 2;
};

void AddFlags(CLI::App& app, Flags& flags) {
  EngineBenchOptions& bench = flags.bench;
  app.add_option("model", flags.models, "GGUF file or Hugging Face directory; with --plot reports of earlier runs (JSON)")
      ->required();
  app.add_option("--plot", flags.plot, "Measure nothing, but draw the shares of the floor in reports and the peers' as an SVG");
  app.add_option("--peers", flags.peers, "JSON of other engines' figures")->capture_default_str();
  app.add_option("--loads", flags.loads,
                 "Loads, separated by commas: A, B, C, P, D, E, G, or A:IN/OUT, B:NxIN/OUT, C:N@FLIGHT, P:N@RATE, D:IN, "
                 "G:NxIN/OUT; none: four small cases");
  app.add_option("--load-format", bench.device.load_format, "checkpoint, or random: weights of no checkpoint")
      ->transform(OneOf<loader::LoadFormat>(
          {{"checkpoint", loader::LoadFormat::kCheckpoint}, {"random", loader::LoadFormat::kRandom}}));
  app.add_option("--seed", bench.device.seed, "Of random weights")->capture_default_str();
  app.add_flag("--profile", bench.profile, "Time each kernel of one run more of every load; all figures are slower");
  app.add_option("--device", bench.device.device, "cpu or cuda")->capture_default_str();
  app.add_option_function<std::string>(
         "--dtype", [&bench](const std::string& name) { bench.device.dtype = kernels::FindDType(name); },
         "On a GPU: of weights, activations and KV, bf16, f16 or auto, what suits the model (default)")
      ->check(CLI::IsMember({"auto", "bf16", "f16"}));
  app.add_option("--max-batch-size", bench.device.slots, "On a GPU: sequences active at once; 0: 1024");
  app.add_option("--session-len", bench.device.session_len, "On a GPU: tokens of one sequence; 0: 8704");
  app.add_option("--step-tokens", bench.device.step_tokens, "Of one step; 0: the executor's default");
  app.add_option("--cache-max-entry-count", bench.device.kv_share, "On a GPU: share of the free memory for KV")
      ->capture_default_str();
  app.add_flag("--batch-invariant", bench.device.batch_invariant, "On a GPU: equal logits to the bit whatever is beside");
  app.add_option("--cpu-threads", bench.device.threads, "Threads of the kernels")->capture_default_str();
  app.add_option("--repeats", bench.repeats, "Measured runs of every case")->capture_default_str();
  app.add_option("--trace", flags.trace, "JSON list of [prompt, output] lengths")->capture_default_str();
  app.add_option("--arrivals", flags.arrivals, "JSON list of arrival times in mean gaps")->capture_default_str();
  app.add_option("--small-bandwidth", bench.ceilings.small_bandwidth, "The floor's bytes/s in steps of at most 8 rows");
  app.add_option("--bandwidth", bench.ceilings.bandwidth, "The floor's bytes/s in larger steps");
  app.add_option("--flops", bench.ceilings.flops, "The floor's FLOP/s");
  app.add_option("--streams", bench.streams, "Small cases: streams of the case with many")->capture_default_str();
  app.add_option("--decode-tokens", bench.decode_tokens, "Small cases: output tokens of decoding")->capture_default_str();
  app.add_option("--prompt-tokens", bench.prompt_tokens, "Small cases: tokens of the long prompt")->capture_default_str();
  app.add_option("--trace-requests", flags.trace_requests, "Small cases: requests of the trace; 0: none")
      ->capture_default_str();
  app.add_option("--shorten", flags.shorten, "Small cases: divisor of the trace's lengths")->capture_default_str();
}

absl::Status Plot(const Flags& flags) {
  std::vector<ShareTable> tables;
  for (const std::string& report : flags.models) {
    BERTH_ASSIGN_OR_RETURN(tables.emplace_back(), ReadShares(report, flags.peers));
  }
  std::ofstream file(flags.plot);
  file << SharesSvg(tables) << std::flush;
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", flags.plot));
}

absl::Status Run(Flags& flags) {
  if (!flags.plot.empty()) return Plot(flags);
  if (flags.models.size() != 1) {
    return WrongUsage(absl::StrCat(flags.models.size(), " models are named, want one"));
  }
  flags.bench.device.model = flags.models.front();
  if (!flags.loads.empty()) {
    BERTH_ASSIGN_OR_RETURN(const TraceFiles files, ReadTraceFiles(flags.loads, flags.trace, flags.arrivals));
    BERTH_ASSIGN_OR_RETURN(flags.bench.loads, ParseLoads(flags.loads, files));
  } else if (flags.trace_requests > 0) {
    BERTH_ASSIGN_OR_RETURN(flags.bench.trace, ReadTrace(flags.trace, flags.trace_requests, flags.shorten));
  }
  BERTH_ASSIGN_OR_RETURN(const EngineBenchReport report, RunEngineBench(flags.bench, [](const LoadRow& row) {
                           std::cerr << FormatRow(row) + "\n" + FormatKernels(row.kernels, kKernelsShown) << std::flush;
                         }));
  std::cout << ToJson(report) << "\n";
  return absl::OkStatus();
}

}  // namespace
}  // namespace berth::cli

// berth-bench: the engine's figures as JSON, and of loads a line each on standard error.
int main(int argc, char** argv) {
  berth::cli::Flags flags;
  CLI::App app("Measures the engine without RPC");
  app.footer(berth::cli::kExitCodes);
  berth::cli::AddFlags(app, flags);
  if (const auto code = berth::cli::ParseLine(app, argc, argv)) return *code;
  return berth::cli::ExitCode(berth::cli::Run(flags));
}
