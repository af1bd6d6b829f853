#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "grpcpp/completion_queue.h"
#include "gtest/gtest.h"
#include "prometheus/registry.h"
#include "proto/rpc/shard.h"
#include "proto/rpc/status.h"
#include "worker/engine/engine.h"
#include "worker/runtime/sim_executor.h"
#include "worker/service/generation_core.h"
#include "worker/service/sim_model.h"
#include "worker/service/step_pump.h"
#include "worker/session/session_store.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::testing {

// A journal in memory that several stores share. The next claim can be held up, and made to fail.
class GatedJournal : public session::Journal {
 public:
  struct State {
    base::Mutex mutex;
    std::unique_ptr<session::Journal> journal ABSL_GUARDED_BY(mutex) = session::MakeMemoryJournal();
    std::shared_ptr<base::Notification> gate ABSL_GUARDED_BY(mutex);  // null: open
    absl::Status refusal ABSL_GUARDED_BY(mutex);
  };
  explicit GatedJournal(std::shared_ptr<State> state) : state_(std::move(state)) {}

  absl::StatusOr<session::Claim> DoClaim(const session::ClaimRequest& request) override {
    std::shared_ptr<base::Notification> gate;
    {
      base::MutexLock lock(state_->mutex);
      gate = std::exchange(state_->gate, nullptr);
    }
    if (gate != nullptr) gate->Wait();
    base::MutexLock lock(state_->mutex);
    if (!state_->refusal.ok()) return std::exchange(state_->refusal, absl::OkStatus());
    return state_->journal->DoClaim(request);
  }
  absl::StatusOr<uint64_t> Commit(const session::CommitRequest& request) override {
    base::MutexLock lock(state_->mutex);
    return state_->journal->Commit(request);
  }
  absl::Status Release(const session::SessionKey& key, uint64_t fence) override {
    base::MutexLock lock(state_->mutex);
    return state_->journal->Release(key, fence);
  }
  absl::StatusOr<session::History> Load(const session::SessionKey& key) override {
    base::MutexLock lock(state_->mutex);
    return state_->journal->Load(key);
  }
  absl::Status Sweep(absl::Time before) override {
    base::MutexLock lock(state_->mutex);
    return state_->journal->Sweep(before);
  }
  std::string domain() const override { return "shared"; }

 private:
  const std::shared_ptr<State> state_;
};

// Takes all events of one request.
class CollectingSink : public service::RequestSink {
 public:
  void OnEvents(service::Request& request) override {
    int64_t budget = 1 << 30;
    google::protobuf::RepeatedPtrField<v1::StreamEvent> events;
    const bool over = request.TakeEvents(&budget, &events);
    for (const v1::StreamEvent& event : events) {
      ++count;
      if (event.has_started()) started = event.started();
      for (const int32_t token : event.delta().token_ids()) tokens.push_back(token);
      text += event.delta().text();
      reasoning += event.delta().reasoning();
      if (event.has_finished()) finished = event.finished();
      if (event.has_error()) error = rpc::FromProto(event.error());
    }
    if (!over) return;
    core->Release(request);
    ended.Notify();
  }
  void OnTakenOver(service::Request&) override {}

  service::GenerationCore* core = nullptr;
  int count = 0;
  v1::Started started;
  std::vector<int32_t> tokens;
  std::string text, reasoning;
  v1::Finished finished;
  absl::Status error;
  base::Notification ended;
};

// A worker's GenerationCore on the simulated engine, without its services.
class CoreFixture {
 public:
  // `clock`: the engine's.
  CoreFixture(const std::string& worker_id, std::shared_ptr<GatedJournal::State> journal, runtime::SimFaults faults = {},
              const base::Clock& clock = base::SystemClock())
      : shard(std::make_unique<grpc::CompletionQueue>()),
        device(new runtime::SimExecutor(Device(faults))),
        engine({}, std::unique_ptr<engine::Executor>(device), clock),
        sessions({.holder = worker_id + "/1"}, std::make_unique<GatedJournal>(std::move(journal)), base::SystemClock()),
        pool(1),
        core({.worker_id = worker_id, .incarnation = 1}, {.model = model,
                                                          .engine = engine,
                                                          .sessions = sessions,
                                                          .pool = pool,
                                                          .shard = shard,
                                                          .metrics = metrics,
                                                          .clock = base::SystemClock()}),
        pump(std::make_unique<service::StepPump>(
            engine.output(), shard, [this](std::vector<engine::StepOutput> steps) { core.OnSteps(std::move(steps)); })) {
    shard.Start();
    engine.Start();
  }
  ~CoreFixture() { Stop(); }
  void Stop() {
    engine.Stop();
    pump.reset();
    shard.Stop();
  }

  // Runs on the I/O thread and waits.
  void OnShard(absl::FunctionRef<void()> function) {
    base::Notification done;
    shard.Post([&] {
      function();
      done.Notify();
    });
    done.Wait();
  }
  void Submit(const v1::GenerationSpec& spec, CollectingSink& sink, bool suspect = false) {
    sink.core = &core;
    OnShard([&] { core.Submit({.spec = std::make_shared<const v1::GenerationSpec>(spec), .suspect = suspect}, sink, 1); });
  }
  void Run(const v1::GenerationSpec& spec, CollectingSink& sink) {
    Submit(spec, sink);
    sink.ended.Wait();
  }
  // Returns when the engine has drawn so many tokens more than at the last call.
  void AwaitTokens(uint64_t count) {
    auto reached = std::make_shared<base::Notification>();
    awaited_ += count;
    shard.Post([this, reached, until = awaited_] {
      const auto check = [this, reached, until] {
        if (engine.Stats().generated_tokens >= until && !reached->HasBeenNotified()) reached->Notify();
      };
      core.OnBatchEnd([check](uint64_t, absl::Duration) { check(); });
      check();
    });
    reached->Wait();
  }

  service::ServedModel model = *service::MakeSimModel("sim", 4096);
  prometheus::Registry registry;
  service::Metrics metrics{registry, "sim", "w"};
  rpc::Shard shard;
  runtime::SimExecutor* const device;  // the engine's
  engine::Engine engine;
  session::SessionStore sessions;
  service::TokenizerPool pool;
  service::GenerationCore core;
  std::unique_ptr<service::StepPump> pump;

 private:
  static runtime::SimExecutorOptions Device(const runtime::SimFaults& faults) {
    return {.device = {.limits = {.slots = 16, .kv_blocks = 512, .max_step_tokens = 128, .max_length = 4096, .max_depth = 2},
                       .vocabulary = {.begin = text::SimVocabulary::kFirstPiece, .end = text::SimVocabulary::kEnd}},
            .step_time = absl::Milliseconds(1),
            .faults = faults};
  }
  uint64_t awaited_ = 0;
};

}  // namespace berth::testing
