#include "clients/cli/bench_engine.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_driver.h"
#include "clients/cli/bench_profile.h"
#include "clients/cli/bench_progress.h"
#include "clients/cli/elapsed_line.h"

namespace berth::cli {
namespace {

constexpr int kShortPrompt = 8;      // of the decode cases: the prompts of all streams fit into one step
constexpr size_t kWarmUpTrace = 64;  // requests of a trace's discarded run

// A case of the CPU's four: its requests come all at once.
struct SmallCase {
  std::string name;
  std::vector<BenchRequest> requests;
  std::function<double(const RunTimes&)> rate;
};

std::vector<SmallCase> SmallCases(const EngineBenchOptions& options) {
  const BenchRequest decode{.prompt = kShortPrompt, .output = options.decode_tokens};
  const int prompt = options.prompt_tokens;
  std::vector<SmallCase> cases = {
      {"decode_1", {decode}, DecodeRate},
      {absl::StrCat("decode_", options.streams), std::vector<BenchRequest>(options.streams, decode), DecodeRate},
      {absl::StrCat("prompt_", prompt), {{.prompt = prompt, .output = 1}}, [prompt](const RunTimes& times) {
         return prompt / times.tokens.front().first;
       }}};
  if (options.trace.empty()) return cases;
  SmallCase trace{.name = "trace"};
  int tokens = 0;
  for (const TraceRequest& request : options.trace) {
    trace.requests.push_back({.prompt = request.prompt, .output = request.output});
    tokens += request.output;
  }
  trace.rate = [tokens](const RunTimes& times) { return tokens / times.end; };
  cases.push_back(std::move(trace));
  return cases;
}

// Runs that are kept, after one of `warm_up` that is not.
absl::StatusOr<std::vector<RunTimes>> Repeat(EngineDriver& driver, int repeats, const std::vector<BenchRequest>& warm_up,
                                             const std::vector<BenchRequest>& requests, int in_flight) {
  BERTH_RETURN_IF_ERROR(driver.Run(warm_up, in_flight).status());
  std::vector<RunTimes> runs;
  for (int i = 0; i < repeats; ++i) {
    BERTH_ASSIGN_OR_RETURN(RunTimes times, driver.Run(requests, in_flight));
    runs.push_back(std::move(times));
  }
  return runs;
}

// The whole load, or the beginning of a trace, all of it at once.
std::vector<BenchRequest> WarmUp(const BenchLoad& load) {
  std::vector<BenchRequest> requests = load.requests;
  if (load.kind == BenchLoad::Kind::kTrace || load.kind == BenchLoad::Kind::kOpen) {
    requests.resize(std::min(requests.size(), kWarmUpTrace));
  }
  for (BenchRequest& request : requests) request.arrival = 0;
  return requests;
}

// Of all runs.
size_t RequestCount(const EngineBenchOptions& options, const std::vector<SmallCase>& cases) {
  size_t count = 0;
  for (const SmallCase& one : cases) count += one.requests.size() * (1 + options.repeats);
  for (const BenchLoad& load : options.loads) {
    count += WarmUp(load).size() + load.requests.size() * (options.repeats + (options.profile ? 1 : 0));
  }
  return count;
}

// `profiler` may be null.
absl::StatusOr<LoadRow> RunLoad(EngineDriver& driver, const EngineBenchOptions& options, const model::DecoderSpec& spec,
                                const BenchLoad& load, KernelProfiler* profiler) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<RunTimes> runs,
                         Repeat(driver, options.repeats, WarmUp(load), load.requests, load.in_flight));
  LoadRow row{.kind = load.kind, .name = load.name, .figures = LoadFigures(load.requests, runs)};
  if (options.device.device != "cpu" && load.kind != BenchLoad::Kind::kOpen)
    row.floor = ComputeFloor(spec, load.requests, load.in_flight, options.ceilings);
  if (profiler != nullptr) {
    BERTH_RETURN_IF_ERROR(profiler->Take().status());
    BERTH_RETURN_IF_ERROR(driver.Run(load.requests, load.in_flight).status());
    BERTH_ASSIGN_OR_RETURN(row.kernels, profiler->Take());
  }
  return row;
}

// On the CPU slots for the most that run at once, and the longest sequence; a GPU has one configuration for all loads.
BenchDeviceOptions DeviceOptions(const EngineBenchOptions& options, const std::vector<SmallCase>& cases) {
  BenchDeviceOptions device = options.device;
  if (device.device != "cpu") return device;
  int longest = 0;
  const auto cover = [&](const std::vector<BenchRequest>& requests, int in_flight) {
    const int count = static_cast<int>(requests.size());
    device.slots = std::max(device.slots, in_flight > 0 ? std::min(in_flight, count) : count);
    for (const BenchRequest& request : requests) longest = std::max(longest, request.prompt + request.output);
  };
  for (const BenchLoad& load : options.loads) cover(load.requests, load.in_flight);
  for (const SmallCase& one : cases) cover(one.requests, std::max(16, options.streams));
  device.session_len = longest + engine::kBlockTokens;
  return device;
}

}  // namespace

absl::Status EngineBenchOptions::Validate() const {
  if (repeats < 1) return absl::InvalidArgumentError(absl::StrCat("repeats ", repeats, ", want at least 1"));
  if (streams < 1) return absl::InvalidArgumentError(absl::StrCat("streams ", streams, ", want at least 1"));
  if (decode_tokens < 2) return absl::InvalidArgumentError(absl::StrCat("decode_tokens ", decode_tokens, ", want at least 2"));
  if (prompt_tokens < 1) return absl::InvalidArgumentError(absl::StrCat("prompt_tokens ", prompt_tokens, ", want at least 1"));
  return absl::OkStatus();
}

absl::StatusOr<EngineBenchReport> RunEngineBench(const EngineBenchOptions& options,
                                                 const std::function<void(const LoadRow&)>& on_row) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  const std::vector<SmallCase> cases = options.loads.empty() ? SmallCases(options) : std::vector<SmallCase>();
  std::unique_ptr<KernelProfiler> profiler;
  if (options.profile) {
    BERTH_ASSIGN_OR_RETURN(profiler, MakeKernelProfiler());
  }
  std::optional<ElapsedLine> loading("loading");
  BERTH_ASSIGN_OR_RETURN(BenchDevice device, OpenBenchDevice(DeviceOptions(options, cases), [&](int64_t done, int64_t total) {
                           loading->SetPercent(static_cast<int>(100 * done / total));
                         }));
  loading.reset();
  const loader::LoadedModel& model = *device.model;
  BenchProgress progress(RequestCount(options, cases));
  EngineDriver driver(std::move(device.executor), options.depth, model.spec.vocab, progress);
  EngineBenchReport report{.model = model.name,
                           .device = options.device.device,
                           .dtype = std::string(kernels::Info(device.dtype).name),
                           .threads = options.device.threads,
                           .repeats = options.repeats,
                           .step_tokens = driver.limits().max_step_tokens,
                           .ready_seconds = device.context_seconds + device.load_seconds + device.start_seconds,
                           .context_seconds = device.context_seconds,
                           .load_seconds = device.load_seconds};
  for (const SmallCase& one : cases) {
    BERTH_ASSIGN_OR_RETURN(const std::vector<RunTimes> runs, Repeat(driver, options.repeats, one.requests, one.requests, 0));
    std::vector<double> values;
    for (const RunTimes& run : runs) values.push_back(one.rate(run));
    report.figures.push_back(MakeFigure(one.name, "tok/s", std::move(values)));
  }
  for (const BenchLoad& load : options.loads) {
    BERTH_ASSIGN_OR_RETURN(LoadRow row, RunLoad(driver, options, model.spec, load, profiler.get()));
    if (on_row) on_row(row);
    report.rows.push_back(std::move(row));
  }
  return report;
}

}  // namespace berth::cli
