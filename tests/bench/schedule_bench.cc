// What the scheduler makes of a load, in simulated time: schedule_bench m1|m2 LOADS [SCALE]. LOADS as `berth bench engine`
// takes them, B, C and P. Steps last as long as those of a timeline of that shape's trace on an H200 did, times SCALE: power
// and clocks differ from load to load. Without RPC and host; twelve runs, then twelve with other arrivals.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_metrics.h"
#include "tests/bench/any_result.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_time.h"

namespace berth {
namespace {

using engine::StepPlan, engine::StepWork;

constexpr unsigned kRuns = 12;
constexpr double kLaunch = 0.15e-3, kGap = 0.03e-3;  // of a step that the device waits for, and of one that waits for it
constexpr int kUpTo[] = {8, 32, 64, 128, 192, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280};  // tokens

// Seconds.
struct StepTimes {
  double layer[std::size(kUpTo)];  // products and passes of up to so many tokens
  double token;                    // of more, each 128 tokens
  int layers;
  double rest;              // of a step
  double decode, kv_token;  // attention of decode rows
  double chunk, pair;       // of chunks
  engine::StepCost cost;    // what ModelCost says

  double Of(const StepWork& work) const {
    const auto* const found = std::lower_bound(std::begin(kUpTo), std::end(kUpTo), work.tokens);
    const double each = found != std::end(kUpTo) ? layer[found - kUpTo] : token * ((work.tokens + 127) / 128 * 128);
    double seconds = layers * each + rest;
    if (work.kv_tokens > 0) seconds += decode + work.kv_tokens * kv_token;
    if (work.pairs > 0) seconds += chunk + work.pairs * pair;
    return seconds;
  }
};

// clang-format off
constexpr StepTimes kM1 = {
    .layer = {43e-6, 47e-6, 47e-6, 60e-6, 71e-6, 84e-6, 114e-6, 131e-6, 155e-6, 173e-6, 200e-6, 210e-6, 241e-6, 250e-6},
    .token = 0.2e-6, .layers = 24, .rest = 0.3e-3, .decode = 0.2e-3, .kv_token = 25e-9, .chunk = 0.3e-3, .pair = 0.5e-9,
    .cost = {.fixed = 0.29e-3, .weights = 0.92e-3, .token = 4.7e-6, .kv_token = 24e-9, .pair = 0.61e-9, .tile = 128}};
constexpr StepTimes kM2 = {
    .layer = {115e-6, 129e-6, 133e-6, 153e-6, 194e-6, 216e-6, 303e-6, 379e-6, 467e-6, 544e-6, 641e-6, 693e-6, 795e-6, 878e-6},
    .token = 0.69e-6, .layers = 32, .rest = 0.45e-3, .decode = 0.15e-3, .kv_token = 34e-9, .chunk = 0.6e-3, .pair = 1.6e-9,
    .cost = {.fixed = 0.38e-3, .weights = 4.1e-3, .token = 21.7e-6, .kv_token = 31e-9, .pair = 1.6e-9, .tile = 128}};
// clang-format on

// The engine's loop over a device that takes `times`.
class Simulation {
 public:
  Simulation(const StepTimes& times, double scale, unsigned seed)
      : times_(times),
        scale_(scale),
        random_(seed),
        scheduler_({.slots = 1024, .kv_blocks = 60000, .step_tokens = 8192, .prefix_cache = false, .cost = times.cost}) {}

  cli::RunTimes Run(const cli::BenchLoad& load) {
    load_ = &load;
    run_.requests.resize(load.requests.size());
    while (ended_ < load.requests.size()) {
      if (steps_.empty() && !Plan(now_)) {
        now_ = load.requests[next_].arrival;
        continue;
      }
      const double time = std::max(PlanTime(), now_);
      if (steps_.size() == 1 && time < steps_.front().end) Plan(now_ = time);
      Commit();
    }
    run_.end = now_;
    return std::move(run_);
  }

 private:
  struct Step {
    StepPlan plan;
    StepWork work;
    double begin, end;
  };

  // False when there is nothing to compute.
  bool Plan(double at) {
    for (; next_ < load_->requests.size() && load_->requests[next_].arrival <= at; ++next_) {
      if (load_->in_flight > 0 && next_ - ended_ >= static_cast<size_t>(load_->in_flight)) break;
      const cli::BenchRequest& request = load_->requests[next_];
      run_.requests[next_].added = request.arrival > 0 ? request.arrival : at;
      scheduler_.Add({.id = next_ + 1,
                      .tokens = std::vector<int32_t>(request.prompt, 7),
                      .prompt_length = request.prompt,
                      .max_tokens = request.output});
    }
    StepPlan plan = scheduler_.Plan(absl::ZeroDuration());
    if (plan.empty()) return false;
    const StepWork work = engine::WorkOf(plan);
    const double begin = steps_.empty() ? at + kLaunch : std::max(steps_.back().end + kGap, at + kLaunch);
    const double seconds = times_.Of(work) * scale_ * noise_(random_);
    steps_.push_back({std::move(plan), work, begin, begin + seconds});
    return true;
  }

  double PlanTime() const {
    const Step& running = steps_.back();
    return running.begin + absl::ToDoubleSeconds(engine::PlanDelay(running.work, absl::Seconds(running.end - running.begin)));
  }

  void Commit() {
    const Step step = std::move(steps_.front());
    steps_.pop_front();
    now_ = std::max(now_, step.end);
    for (const engine::SequenceUpdate& update : scheduler_.Commit(bench::AnyResult(step.plan))) {
      cli::RequestTimes& request = run_.requests[update.id - 1];
      if (!update.tokens.empty()) {
        cli::NoteOutput(now_, request, run_.gaps);
        request.tokens += static_cast<int>(update.tokens.size());
        run_.tokens.push_back({now_, static_cast<int>(update.tokens.size())});
      }
      ended_ += update.finish != engine::FinishReason::kNone;
    }
  }

  const StepTimes& times_;
  const double scale_;
  std::mt19937 random_;
  std::normal_distribution<double> noise_{1, 0.02};
  engine::Scheduler scheduler_;
  const cli::BenchLoad* load_ = nullptr;
  std::deque<Step> steps_;
  cli::RunTimes run_;
  size_t next_ = 0, ended_ = 0;
  double now_ = 0;
};

void Print(const std::string& name, const cli::BenchLoad& load, const std::vector<cli::RunTimes>& runs) {
  std::printf("%-24s", name.c_str());
  const std::vector<cli::Figure> figures = cli::LoadFigures(load.requests, runs);
  for (const char* figure : {"output_rate", "ttft_mean", "ttft_p99", "itl_mean", "itl_p99"}) {
    const cli::Figure* const found = cli::FindFigure(figures, figure);
    if (found != nullptr) std::printf("  %s %.1f [%.1f-%.1f]", figure, found->median, found->low, found->high);
  }
  std::printf("\n");
}

int Main(const std::string& shape, const std::string& list, double scale) {
  BERTH_CHECK(shape == "m1" || shape == "m2") << shape << " is neither m1 nor m2";
  const StepTimes& times = shape == "m1" ? kM1 : kM2;
  const auto files = cli::ReadTraceFiles(list, cli::kBuiltIn, cli::kBuiltIn);
  BERTH_CHECK(files.ok()) << files.status();
  const auto loads = cli::ParseLoads(list, *files);
  BERTH_CHECK(loads.ok()) << loads.status();
  for (const cli::BenchLoad& load : *loads) {
    const auto count = static_cast<int>(load.requests.size());
    const bool open = cli::HaveArrivals(load.requests);
    std::vector<cli::RunTimes> runs, others;
    for (unsigned seed = 0; seed < kRuns; ++seed) {
      runs.push_back(Simulation(times, scale, seed).Run(load));
      if (!open) continue;
      const cli::Sweep sweep{.request_rates = {count / load.requests.back().arrival}, .requests = count, .seed = seed};
      others.push_back(Simulation(times, scale, seed).Run(cli::SweepLoads(sweep, files->trace)->front()));
    }
    Print(load.name, load, runs);
    if (open) Print("  other arrivals", load, others);
  }
  return 0;
}

}  // namespace
}  // namespace berth

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: schedule_bench m1|m2 LOADS [SCALE]\n");
    return 2;
  }
  return berth::Main(argv[1], argv[2], argc > 3 ? std::atof(argv[3]) : 1);
}
