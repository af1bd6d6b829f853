// What the scheduler makes of a load, in simulated time: schedule_bench m1|m2 LOADS [SCALE]. LOADS as `berth bench engine`
// takes them, C and P. Steps last as long as those of a timeline of that shape's trace on an H200 did, times SCALE: power and
// clocks differ from load to load. Without RPC and host; the arrivals are those of the load, then twelve others.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "clients/cli/bench_loads.h"
#include "clients/cli/bench_metrics.h"
#include "worker/engine/scheduler.h"

namespace berth {
namespace {

using engine::StepPlan, engine::StepWork;

constexpr int kOtherArrivals = 12;
// As the engine has it: when the next step is planned, before the running one ends.
constexpr double kPlanLead = 1e-3, kLeadShare = 0.1, kPromptLeadShare = 0.25, kShort = 4e-3;
constexpr double kLaunch = 0.15e-3, kGap = 0.03e-3;  // of a step that the device waits for, and of one that waits for it

// Seconds.
struct StepTimes {
  std::vector<std::pair<int, double>> layer;  // products and passes of up to so many tokens
  double token;                               // of more, each 128 tokens
  int layers;
  double rest;              // of a step
  double decode, kv_token;  // attention of decode rows
  double chunk, pair;       // of chunks
  engine::StepCost cost;    // what ModelCost says

  double Of(const StepPlan& plan) const {
    StepWork work;
    bool chunks = false;
    for (const engine::RowRecord& row : plan.rows()) {
      work.Add(row.position, row.count);
      chunks |= row.count > 1;
    }
    const auto found = std::find_if(layer.begin(), layer.end(), [&](const auto& entry) { return work.tokens <= entry.first; });
    double seconds = layers * (found != layer.end() ? found->second : token * ((work.tokens + 127) / 128 * 128)) + rest;
    if (work.kv_tokens > 0) seconds += decode + work.kv_tokens * kv_token;
    if (chunks) seconds += chunk + work.pairs * pair;
    return seconds;
  }
};

StepTimes TimesOf(const std::string& shape) {
  if (shape == "m1") {
    return {.layer = {{8, 43e-6},
                      {64, 47e-6},
                      {128, 60e-6},
                      {192, 71e-6},
                      {256, 84e-6},
                      {384, 114e-6},
                      {512, 131e-6},
                      {640, 155e-6},
                      {768, 173e-6},
                      {896, 200e-6},
                      {1024, 210e-6},
                      {1152, 241e-6},
                      {1280, 250e-6}},
            .token = 0.2e-6,
            .layers = 24,
            .rest = 0.3e-3,
            .decode = 0.2e-3,
            .kv_token = 25e-9,
            .chunk = 0.3e-3,
            .pair = 0.5e-9,
            .cost = {.fixed = 0.29e-3, .weights = 0.92e-3, .token = 4.7e-6, .kv_token = 24e-9, .pair = 0.61e-9, .tile = 128}};
  }
  BERTH_CHECK(shape == "m2") << shape << " is neither m1 nor m2";
  return {.layer = {{8, 115e-6},
                    {32, 129e-6},
                    {64, 133e-6},
                    {128, 153e-6},
                    {192, 194e-6},
                    {256, 216e-6},
                    {384, 303e-6},
                    {512, 379e-6},
                    {640, 467e-6},
                    {768, 544e-6},
                    {896, 641e-6},
                    {1024, 693e-6},
                    {1152, 795e-6},
                    {1280, 878e-6}},
          .token = 0.69e-6,
          .layers = 32,
          .rest = 0.45e-3,
          .decode = 0.15e-3,
          .kv_token = 34e-9,
          .chunk = 0.6e-3,
          .pair = 1.6e-9,
          .cost = {.fixed = 0.38e-3, .weights = 4.1e-3, .token = 21.7e-6, .kv_token = 31e-9, .pair = 1.6e-9, .tile = 128}};
}

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
    double begin, end;
    bool decodes, prompts;
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
    StepWork work;
    for (const engine::RowRecord& row : plan.rows()) work.Add(row.position, row.count);
    const double begin = steps_.empty() ? at + kLaunch : std::max(steps_.back().end + kGap, at + kLaunch);
    const double seconds = times_.Of(plan) * scale_ * noise_(random_);
    steps_.push_back({std::move(plan), begin, begin + seconds, work.kv_tokens > 0, work.pairs > 0});
    return true;
  }

  double PlanTime() const {
    const Step& running = steps_.back();
    const double seconds = running.end - running.begin;
    if (seconds <= kShort || !running.decodes) return running.begin;
    return running.begin + (1 - (running.prompts ? kPromptLeadShare : kLeadShare)) * seconds - kPlanLead;
  }

  void Commit() {
    const Step step = std::move(steps_.front());
    steps_.pop_front();
    now_ = std::max(now_, step.end);
    engine::StepResult result{.step = step.plan.step()};
    for (const engine::RowRecord& row : step.plan.rows()) {
      if (row.sample > 0) result.rows.push_back({.slot = row.slot, .generation = row.generation, .token = 9});
    }
    for (const engine::SequenceUpdate& update : scheduler_.Commit(std::move(result))) {
      cli::RequestTimes& request = run_.requests[update.id - 1];
      if (!update.tokens.empty()) {
        if (request.tokens == 0) {
          request.first = now_;
        } else {
          run_.gaps.push_back(now_ - request.last);
        }
        request.last = now_;
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
  const StepTimes times = TimesOf(shape);
  const auto files = cli::ReadTraceFiles(list, cli::kBuiltIn, cli::kBuiltIn);
  BERTH_CHECK(files.ok()) << files.status();
  const auto loads = cli::ParseLoads(list, *files);
  BERTH_CHECK(loads.ok()) << loads.status();
  for (const cli::BenchLoad& load : *loads) {
    std::vector<cli::RunTimes> runs;
    for (unsigned seed = 0; seed < kOtherArrivals; ++seed) runs.push_back(Simulation(times, scale, seed).Run(load));
    Print(load.name, load, runs);
    if (!cli::HaveArrivals(load.requests)) continue;
    runs.clear();
    cli::BenchLoad other = load;
    const double gap = load.requests.back().arrival / static_cast<double>(load.requests.size());
    for (unsigned seed = 0; seed < kOtherArrivals; ++seed) {
      std::mt19937 random(seed);
      std::exponential_distribution<double> gaps(1 / gap);
      double at = 0;
      for (cli::BenchRequest& request : other.requests) request.arrival = at += gaps(random);
      runs.push_back(Simulation(times, scale, seed).Run(other));
    }
    Print("  other arrivals", other, runs);
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
