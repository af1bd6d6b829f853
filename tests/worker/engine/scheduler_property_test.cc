// Random operations over the scheduler and the strict simulated device: whatever happens, every sequence gets the tokens that
// it gets alone, ends exactly once, and leaves nothing behind.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/fake_executor.h"
#include "worker/engine/scheduler.h"
#include "worker/runtime/sim_token.h"

namespace berth::engine {
namespace {

constexpr int32_t kNanToken = 7;

struct Case {
  int seed = 0;
  int depth = 1;
};

struct Setting {
  int slots = 0;
  int kv_blocks = 0;
  int step_tokens = 0;
  bool prefix_cache = true;
  StepCost cost;
};

class World {
 public:
  World(const Case& c, const Setting& setting)
      : random_(c.seed),
        depth_(c.depth),
        setting_(setting),
        vocabulary_{.begin = 100, .end = 160, .stop_probability = 0.01},
        max_length_(std::min(400, setting.kv_blocks * kBlockTokens)),
        executor_({.limits = {.slots = setting.slots,
                              .kv_blocks = setting.kv_blocks,
                              .max_step_tokens = setting.step_tokens,
                              .max_length = max_length_,
                              .max_depth = c.depth},
                   .vocabulary = vocabulary_,
                   .nan_token = kNanToken,
                   .strict = true}),
        scheduler_({.slots = setting.slots,
                    .kv_blocks = setting.kv_blocks,
                    .step_tokens = setting.step_tokens,
                    .prefix_cache = setting.prefix_cache,
                    .cost = setting.cost}) {}

  void Operate() {
    switch (Below(12)) {
      case 0:
      case 1:
        Add();
        break;
      case 2:
        AddChoices();
        break;
      case 3:
        if (Below(4) == 0) scheduler_.Cancel(AnyId());
        break;
      case 4:
        if (Below(2) == 0) Finish();
        break;
      default:
        Step();
    }
    Take(scheduler_.TakeUpdates());
    Check();
  }

  void Drain() {
    for (int steps = 0; !scheduler_.idle() || executor_.in_flight() > 0; ++steps) {
      ASSERT_LT(steps, 100000) << "the sequences never end";
      Step();
      Take(scheduler_.TakeUpdates());
      Check();
      if (::testing::Test::HasFatalFailure()) return;
    }
    for (const auto& [id, run] : runs_) EXPECT_NE(run.finish, FinishReason::kNone) << "sequence " << id;
    const EngineStats stats = scheduler_.stats();
    EXPECT_EQ(stats.kv_blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
  }

  EngineStats stats() const { return scheduler_.stats(); }

 private:
  struct Run {
    SequenceSpec spec;
    std::vector<int32_t> alone;   // all output of an undisturbed run
    std::vector<int32_t> output;  // as updates brought it, given output included
    int scored = 0;               // tokens of the prompt
    int finish_at = -1;           // the smallest cut asked for
    bool started = false;
    bool cancelled = false;
    FinishReason finish = FinishReason::kNone;
  };

  int Below(int n) { return static_cast<int>(random_() % n); }
  SequenceId AnyId() { return Below(8) == 0 ? 999999 : 1 + Below(static_cast<int>(runs_.size()) + 1); }

  SequenceSpec RandomSpec() {
    SequenceSpec spec{.id = next_id_++};
    // Beginnings come from a few texts and from earlier conversations, so that prefixes meet in the cache.
    if (!runs_.empty() && Below(3) == 0) {
      const Run& earlier = std::next(runs_.begin(), Below(static_cast<int>(runs_.size())))->second;
      spec.tokens.assign(earlier.spec.tokens.begin(), earlier.spec.tokens.begin() + earlier.spec.prompt_length);
      spec.tokens.insert(spec.tokens.end(), earlier.output.begin(), earlier.output.end());
    } else {
      const int text = Below(3);
      for (int i = Below(4) == 0 ? Below(250) : Below(90); i > 0; --i) spec.tokens.push_back(10 + (text + i * i) % 50);
    }
    for (int i = 1 + Below(20); i > 0; --i) spec.tokens.push_back(10 + Below(50));
    if (Below(40) == 0) spec.tokens.back() = kNanToken;
    spec.tokens.resize(std::min<size_t>(spec.tokens.size(), max_length_ - 1));
    spec.prompt_length = static_cast<int>(spec.tokens.size());
    spec.max_tokens = std::min(Below(10) == 0 ? 0 : 1 + Below(150), max_length_ - spec.prompt_length);
    spec.min_tokens = std::min(Below(20), spec.max_tokens);
    spec.stop_tokens = {100, 5};
    spec.priority = Below(3);
    spec.cache_salt = Below(2);
    spec.sampling.seed = Below(2);
    spec.sampling.logprobs = Below(3) - 1;
    if (Below(10) == 0) spec.deadline = absl::Milliseconds(now_ + Below(300));
    return spec;
  }

  void Add() {
    SequenceSpec spec = RandomSpec();
    if (Below(8) == 0) {
      spec.pool = true;
      spec.max_tokens = 1;
    } else if (Below(4) == 0) {
      Resume(spec);
    }
    spec.score_prompt = !spec.pool && spec.id % 3 == 0;
    Start(std::move(spec));
  }

  // Part of the output was made by an earlier attempt.
  void Resume(SequenceSpec& spec) {
    std::vector<int32_t> alone = runtime::SimOutput(vocabulary_, spec);
    alone.resize(Below(static_cast<int>(alone.size()) + 1));
    spec.tokens.insert(spec.tokens.end(), alone.begin(), alone.end());
  }

  void AddChoices() {
    SequenceSpec spec = RandomSpec();
    const SequenceId first = spec.id;
    spec.score_prompt = spec.id % 3 == 0;
    for (int choice = 0; choice < 3; ++choice) {
      spec.sampling.choice = choice;
      Start(spec);
      spec.id = next_id_++;
      spec.share_prompt_of = first;
      spec.score_prompt = false;
    }
  }

  void Start(SequenceSpec spec) {
    Run& run = runs_[spec.id];
    run.spec = spec;
    if (!spec.pool) run.alone = runtime::SimOutput(vocabulary_, spec);
    run.output.assign(spec.tokens.begin() + spec.prompt_length, spec.tokens.end());
    scheduler_.Add(std::move(spec));
  }

  void Finish() {
    const SequenceId id = AnyId();
    const int cut = Below(80);
    const auto run = runs_.find(id);
    if (run != runs_.end() && run->second.finish == FinishReason::kNone) {
      int& finish_at = run->second.finish_at;
      finish_at = finish_at < 0 ? cut : std::min(finish_at, cut);
    }
    scheduler_.Finish(id, cut);
  }

  void Step() {
    now_ += Below(5);
    if (executor_.in_flight() < depth_) {
      StepPlan plan = scheduler_.Plan(absl::Milliseconds(now_));
      if (!plan.empty()) {
        auto copy = StepPlan::FromBytes(plan.bytes());
        ASSERT_TRUE(copy.ok()) << copy.status();
        CheckTime(plan);
        executor_.Submit(*std::move(copy));
        if (executor_.in_flight() < depth_ && Below(8) > 0) return;
      } else if (executor_.in_flight() == 0) {
        ASSERT_TRUE(scheduler_.idle()) << "nothing is in flight, yet nothing can be planned";
        return;
      }
    }
    const absl::StatusOr<StepResult> result = executor_.Await();
    ASSERT_TRUE(result.ok()) << result.status();
    Take(scheduler_.Commit(*result));
  }

  // However many prompts there are, decode rows are not held up for longer than that.
  void CheckTime(const StepPlan& plan) const {
    if (!setting_.cost.known()) return;
    StepWork decodes, all;
    for (const RowRecord& row : plan.rows()) {
      all.Add(row.position, row.count);
      if (row.token_begin == RowRecord::kLastSampled) decodes.Add(row.position, row.count);
    }
    all.tokens -= setting_.cost.tile / 2;  // to whole tiles
    if (decodes.tokens == 0 || all.tokens <= decodes.tokens + std::max(kBlockTokens, setting_.cost.tile)) return;
    const double prompts = setting_.slots - decodes.tokens, shares = 1 + std::max(1.0, prompts * prompts / 8);
    EXPECT_LE(setting_.cost.Seconds(all), 1.0001 * shares * setting_.cost.Seconds(decodes));
  }

  void Take(const std::vector<SequenceUpdate>& updates) {
    for (const SequenceUpdate& update : updates) TakeOne(update);
  }

  void TakeOne(const SequenceUpdate& update) {
    SCOPED_TRACE("sequence " + std::to_string(update.id));
    ASSERT_TRUE(runs_.contains(update.id));
    Run& run = runs_[update.id];
    ASSERT_EQ(run.finish, FinishReason::kNone) << "an update after the last";
    EXPECT_EQ(update.started, !run.started);
    run.started = true;
    EXPECT_LE(update.cached_tokens, run.spec.score_prompt ? 0 : run.spec.prompt_length);
    CheckScores(run, update);
    run.output.insert(run.output.end(), update.tokens.begin(), update.tokens.end());
    EXPECT_EQ(update.details().logprobs.size(), run.spec.sampling.logprobs < 0 ? 0 : update.tokens.size());
    run.finish = update.finish;
    if (update.finish != FinishReason::kNone) run.output.resize(update.output_tokens);
    const bool prefix =
        run.output.size() <= run.alone.size() && std::equal(run.output.begin(), run.output.end(), run.alone.begin());
    EXPECT_TRUE(prefix) << "other tokens than alone";
    CheckFinish(run, update);
  }

  // In order, each once, as they are alone.
  void CheckScores(Run& run, const SequenceUpdate& update) const {
    const std::vector<int32_t>& tokens = run.spec.tokens;
    const runtime::SimDrawRules rules{.sampling = run.spec.sampling,
                                      .min_length = run.spec.prompt_length + run.spec.min_tokens,
                                      .stop_tokens = run.spec.stop_tokens,
                                      .logit_bias = {}};
    uint64_t state = runtime::kSimEmptyState;
    for (int i = 0; i <= run.scored; ++i) state = runtime::SimAdvance(state, tokens[i]);
    for (const TokenLogprobs& score : update.details().prompt_logprobs) {
      ++run.scored;
      ASSERT_LT(run.scored, run.spec.prompt_length);
      const TokenLogprobs want = runtime::SimScore(vocabulary_, rules, state, run.scored, tokens[run.scored]);
      EXPECT_EQ(score.logprob, want.logprob) << "token " << run.scored;
      EXPECT_EQ(score.top, want.top);
      state = runtime::SimAdvance(state, tokens[run.scored]);
    }
    const bool whole = !update.tokens.empty() || update.finish == FinishReason::kLength;
    const int want = run.spec.score_prompt ? run.spec.prompt_length - 1 : 0;
    EXPECT_TRUE(whole ? run.scored == want : run.scored <= want) << run.scored << " scores, want " << want;
  }

  static std::vector<float> SimSum(const std::vector<int32_t>& tokens) {
    std::vector<float> sum;
    uint64_t state = runtime::kSimEmptyState;
    for (const int32_t token : tokens) runtime::SimAddHidden(state = runtime::SimAdvance(state, token), sum);
    return sum;
  }

  void CheckFinish(const Run& run, const SequenceUpdate& update) {
    const int output = static_cast<int>(run.output.size());
    switch (update.finish) {
      case FinishReason::kLength:
        EXPECT_EQ(output, run.spec.max_tokens);
        break;
      case FinishReason::kStopToken:
        EXPECT_EQ(run.output, run.alone);
        EXPECT_GT(output, run.spec.min_tokens);
        break;
      case FinishReason::kFinished:
        EXPECT_EQ(update.details().hidden_sum,
                  run.spec.pool && run.finish_at != 0 ? SimSum(run.spec.tokens) : std::vector<float>());
        EXPECT_EQ(output, run.spec.pool ? 0 : run.finish_at);
        break;
      case FinishReason::kDeadline:
        EXPECT_LE(run.spec.deadline, absl::Milliseconds(now_));
        break;
      case FinishReason::kError:
        EXPECT_THAT(run.spec.tokens, ::testing::Contains(kNanToken));
        break;
      case FinishReason::kNone:
      case FinishReason::kCancelled:
        break;
    }
  }

  void Check() {
    const absl::Status status = scheduler_.CheckInvariants();
    ASSERT_TRUE(status.ok()) << status;
  }

  std::mt19937 random_;
  const int depth_;
  const Setting setting_;
  const runtime::SimVocabulary vocabulary_;
  const int max_length_;
  testing::FakeExecutor executor_;
  Scheduler scheduler_;
  std::map<SequenceId, Run> runs_;
  SequenceId next_id_ = 1;
  int now_ = 0;
};

class SchedulerPropertyTest : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(SchedulerPropertyTest, NothingChangesTokensAndNothingIsLost) {
  const auto [depth, setting_index] = GetParam();
  constexpr Setting kSettings[] = {
      {.slots = 8, .kv_blocks = 64, .step_tokens = 48},
      {.slots = 6, .kv_blocks = 9, .step_tokens = 64},     // blocks run out
      {.slots = 8, .kv_blocks = 20, .step_tokens = 5},     // fewer tokens a step than sequences
      {.slots = 3, .kv_blocks = 200, .step_tokens = 300},  // everything fits the cache
      {.slots = 8, .kv_blocks = 10, .step_tokens = 32, .prefix_cache = false},
      {.slots = 4, .kv_blocks = 100, .step_tokens = 300, .cost = {.fixed = 1, .weights = 4, .token = 0.1, .kv_token = 0.01}},
      {.slots = 4, .kv_blocks = 100, .step_tokens = 300, .cost = {.weights = 4, .token = 0.1, .kv_token = 0.01, .tile = 32}},
  };
  EngineStats total;
  for (int seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed) + ", depth " + std::to_string(depth));
    World world({.seed = seed, .depth = depth}, kSettings[setting_index]);
    for (int i = 0; i < 400 && !HasFatalFailure(); ++i) world.Operate();
    world.Drain();
    if (HasFailure()) return;
    total.preemptions += world.stats().preemptions;
    total.cached_prompt_tokens += world.stats().cached_prompt_tokens;
  }
  if (setting_index == 1 || setting_index == 4) {
    EXPECT_GT(total.preemptions, 0) << "the case tests nothing";
  }
  if (setting_index != 4) {
    EXPECT_GT(total.cached_prompt_tokens, 0) << "the case tests nothing";
  }
}

INSTANTIATE_TEST_SUITE_P(Depths, SchedulerPropertyTest, ::testing::Combine(::testing::Values(1, 2, 3), ::testing::Range(0, 7)));

}  // namespace
}  // namespace berth::engine
