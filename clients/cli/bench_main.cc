#include <cstdio>
#include <iostream>

#include "CLI/CLI.hpp"
#include "clients/cli/bench_engine.h"

// berth-bench: the engine's figures as JSON.
int main(int argc, char** argv) {
  berth::cli::EngineBenchOptions options;
  std::string trace = "tests/bench/trace.json";
  int trace_requests = 16, shorten = 2;
  CLI::App app("Measures the engine on this machine's CPU");
  app.add_option("model", options.model, "GGUF file or Hugging Face directory")->required();
  app.add_option("--cpu-threads", options.threads, "threads of the kernels")->capture_default_str();
  app.add_option("--repeats", options.repeats, "measured runs of every case")->capture_default_str();
  app.add_option("--streams", options.streams, "streams of the case with many")->capture_default_str();
  app.add_option("--decode-tokens", options.decode_tokens, "output tokens of the decode cases")->capture_default_str();
  app.add_option("--prompt-tokens", options.prompt_tokens, "tokens of the long prompt")->capture_default_str();
  app.add_option("--trace", trace, "JSON list of [prompt, output] lengths")->capture_default_str();
  app.add_option("--trace-requests", trace_requests, "requests of the trace; 0: none")->capture_default_str();
  app.add_option("--shorten", shorten, "divisor of the trace's lengths")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  if (trace_requests > 0) {
    auto requests = berth::cli::ReadTrace(trace, trace_requests, shorten);
    if (!requests.ok()) {
      std::cerr << requests.status() << "\n";
      return 1;
    }
    options.trace = *std::move(requests);
  }
  const auto report = berth::cli::RunEngineBench(options);
  if (!report.ok()) {
    std::cerr << report.status() << "\n";
    return 1;
  }
  std::cout << berth::cli::ToJson(*report) << "\n";
  return 0;
}
