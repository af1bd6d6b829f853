#include "clients/cli/bench_engine.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "worker/engine/engine.h"
#include "worker/loader/model_loader.h"
#include "worker/runtime/cpu_executor.h"

namespace berth::cli {
namespace {

constexpr int kShortPrompt = 8;  // of the decode cases: the prompts of all streams fit into one step

// What one run of some requests took.
struct RunTimes {
  double first = 0;      // seconds to the first token of any request
  double last = 0;       // seconds to the end of all
  int first_tokens = 0;  // tokens that came with the first
  int tokens = 0;        // of output, all requests
};

class Bench {
 public:
  Bench(const loader::LoadedModel& model, std::unique_ptr<engine::Executor> executor, int depth)
      : vocab_(model.spec.vocab), engine_({.depth = depth, .prefix_cache = false}, std::move(executor), base::SystemClock()) {
    engine_.Start();
  }

  int step_tokens() const { return engine_.limits().max_step_tokens; }

  absl::StatusOr<RunTimes> Run(const std::vector<TraceRequest>& requests) {
    std::vector<engine::SequenceSpec> specs;
    for (const TraceRequest& request : requests) specs.push_back(MakeSpec(request));
    RunTimes times;
    const absl::Duration start = base::SystemClock().Monotonic();
    for (engine::SequenceSpec& spec : specs) BERTH_RETURN_IF_ERROR(engine_.Add(std::move(spec)));
    std::vector<engine::StepOutput> steps;
    for (size_t unfinished = requests.size(); unfinished > 0; steps.clear()) {
      if (!engine_.output().Pop(&steps)) return absl::InternalError("the engine ended in the middle of a run");
      const double now = absl::ToDoubleSeconds(base::SystemClock().Monotonic() - start);
      for (const engine::StepOutput& step : steps) {
        for (const engine::SequenceUpdate& update : step.updates) {
          times.tokens += static_cast<int>(update.tokens.size());
          if (update.finish == engine::FinishReason::kNone) continue;
          if (update.finish != engine::FinishReason::kLength) return absl::InternalError("a request failed: " + update.error);
          --unfinished;
        }
      }
      times.last = now;
      if (times.first_tokens > 0 || times.tokens == 0) continue;
      times.first = now;
      times.first_tokens = times.tokens;
    }
    return times;
  }

 private:
  engine::SequenceSpec MakeSpec(const TraceRequest& request) {
    engine::SequenceSpec spec{
        .id = ++last_id_, .prompt_length = request.prompt, .max_tokens = request.output, .sampling = {.temperature = 0}};
    for (int i = 0; i < request.prompt; ++i) spec.tokens.push_back(static_cast<int32_t>(random_() % vocab_));
    return spec;
  }

  const int vocab_;
  std::mt19937 random_{1};
  engine::SequenceId last_id_ = 0;
  engine::Engine engine_;
};

// Decoded tokens per second, without the step that computes the prompts.
double DecodeRate(const RunTimes& times) { return (times.tokens - times.first_tokens) / (times.last - times.first); }

absl::StatusOr<Figure> Measure(Bench& bench, const EngineBenchOptions& options, const std::string& name,
                               const std::vector<TraceRequest>& requests, const std::function<double(const RunTimes&)>& rate) {
  std::vector<double> values;
  for (int i = 0; i <= options.repeats; ++i) {
    BERTH_ASSIGN_OR_RETURN(const RunTimes times, bench.Run(requests));
    if (i > 0) values.push_back(rate(times));
  }
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return Figure{.name = name, .unit = "tok/s", .median = median, .low = values.front(), .high = values.back()};
}

runtime::CpuExecutorOptions ExecutorOptions(const EngineBenchOptions& options, int max_position) {
  int longest = std::max(options.prompt_tokens, kShortPrompt + options.decode_tokens) + 1;
  for (const TraceRequest& request : options.trace) longest = std::max(longest, request.prompt + request.output);
  return {.threads = options.threads,
          .slots = std::max(16, options.streams),
          .session_len = std::min(longest + engine::kBlockTokens, max_position)};
}

}  // namespace

absl::Status EngineBenchOptions::Validate() const {
  if (repeats < 1) return absl::InvalidArgumentError(absl::StrCat("repeats ", repeats, ", want at least 1"));
  if (streams < 1) return absl::InvalidArgumentError(absl::StrCat("streams ", streams, ", want at least 1"));
  if (decode_tokens < 2) return absl::InvalidArgumentError(absl::StrCat("decode_tokens ", decode_tokens, ", want at least 2"));
  if (prompt_tokens < 1) return absl::InvalidArgumentError(absl::StrCat("prompt_tokens ", prompt_tokens, ", want at least 1"));
  return absl::OkStatus();
}

absl::StatusOr<EngineBenchReport> RunEngineBench(const EngineBenchOptions& options) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  const absl::Duration start = base::SystemClock().Monotonic();
  BERTH_ASSIGN_OR_RETURN(const loader::LoadedModel model, loader::LoadModel(options.model));
  BERTH_ASSIGN_OR_RETURN(auto executor,
                         runtime::MakeCpuExecutor({model.spec, model.weights, model.spec.vocab},
                                                  ExecutorOptions(options, model.spec.max_position), base::SystemClock()));
  Bench bench(model, std::move(executor), options.depth);
  EngineBenchReport report{.model = model.name,
                           .threads = options.threads,
                           .repeats = options.repeats,
                           .step_tokens = bench.step_tokens(),
                           .ready_seconds = absl::ToDoubleSeconds(base::SystemClock().Monotonic() - start)};
  const auto measure = [&](const std::string& name, const std::vector<TraceRequest>& requests,
                           const std::function<double(const RunTimes&)>& rate) -> absl::Status {
    BERTH_ASSIGN_OR_RETURN(Figure figure, Measure(bench, options, name, requests, rate));
    report.figures.push_back(std::move(figure));
    return absl::OkStatus();
  };
  const TraceRequest decode{.prompt = kShortPrompt, .output = options.decode_tokens};
  BERTH_RETURN_IF_ERROR(measure("decode_1", {decode}, DecodeRate));
  BERTH_RETURN_IF_ERROR(
      measure(absl::StrCat("decode_", options.streams), std::vector<TraceRequest>(options.streams, decode), DecodeRate));
  BERTH_RETURN_IF_ERROR(measure(absl::StrCat("prompt_", options.prompt_tokens),
                                {{.prompt = options.prompt_tokens, .output = 1}},
                                [&](const RunTimes& times) { return options.prompt_tokens / times.first; }));
  if (!options.trace.empty()) {
    BERTH_RETURN_IF_ERROR(measure("trace", options.trace, [](const RunTimes& times) { return times.tokens / times.last; }));
  }
  return report;
}

absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int requests, int shorten) {
  if (shorten < 1) return absl::InvalidArgumentError(absl::StrCat("shorten ", shorten, ", want at least 1"));
  std::ifstream file(path);
  if (!file) return absl::NotFoundError("cannot open the trace " + path);
  const nlohmann::json pairs = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!pairs.is_array()) return absl::InvalidArgumentError(path + " is no JSON list");
  std::vector<TraceRequest> trace;
  for (const auto& pair : pairs) {
    if (static_cast<int>(trace.size()) == requests) break;
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() || !pair[1].is_number_integer()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": entry ", trace.size(), " is no pair of lengths: ", pair.dump()));
    }
    trace.push_back({.prompt = std::max(1, pair[0].get<int>() / shorten), .output = std::max(1, pair[1].get<int>() / shorten)});
  }
  return trace;
}

std::string ToJson(const EngineBenchReport& report) {
  nlohmann::json figures;
  for (const Figure& figure : report.figures) {
    figures[figure.name] = {{"unit", figure.unit}, {"median", figure.median}, {"low", figure.low}, {"high", figure.high}};
  }
  return nlohmann::json{{"model", report.model},
                        {"threads", report.threads},
                        {"repeats", report.repeats},
                        {"step_tokens", report.step_tokens},
                        {"ready_seconds", report.ready_seconds},
                        {"figures", figures}}
      .dump(2);
}

}  // namespace berth::cli
