#include "worker/service/worker_status.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"

namespace berth::service {
namespace {

constexpr absl::Duration kWatchInterval = absl::Milliseconds(100);
// A watch this late says that the whole process stood still, not its step.
constexpr absl::Duration kLateWatch = absl::Milliseconds(500);

absl::Status Draining() {
  return rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining"),
                             absl::Milliseconds(100));
}

// What a link may have at the worker. A gateway with the worker to itself sends little more than runs: what waits here cannot
// be overtaken, moved to another worker or judged by its deadline as in the gateway's queue. Of several, some may be idle:
// their shares add up to all that the worker takes.
int SubmitCredit(int slots, int max_requests, int links) {
  const int alone = slots + std::max(8, slots / 8);
  return std::max(1, std::min(alone, max_requests / std::max(1, links)));
}

}  // namespace

WorkerStatus::WorkerStatus(const WorkerIdentity& identity, const Parts& parts) : identity_(identity), parts_(parts) {}

void WorkerStatus::Start() {
  SetState(v1::WORKER_STATE_READY, "ready");
  WatchSteps();
}

void WorkerStatus::Drain(absl::AnyInvocable<void()> drained) {
  if (state_ == v1::WORKER_STATE_READY) {
    SetState(v1::WORKER_STATE_DRAINING, "draining");
    ++drains_;
    accepting_ = true;
    DuringDrain(parts_.drain_accept, &WorkerStatus::RefuseNew);
    DuringDrain(parts_.drain_deadline, &WorkerStatus::HandOver);
  }
  if (!drained) return;
  if (accepting_) {
    drained_.push_back(std::move(drained));
  } else {
    parts_.core.WhenIdle(std::move(drained));
  }
}

void WorkerStatus::DuringDrain(absl::Duration delay, void (WorkerStatus::*step)()) {
  if (delay <= absl::ZeroDuration()) return (this->*step)();
  parts_.shard.After(delay, [this, drain = drains_, step] {
    if (drain == drains_ && state_ == v1::WORKER_STATE_DRAINING) (this->*step)();
  });
}

void WorkerStatus::RefuseNew() {
  accepting_ = false;
  parts_.core.Refuse(Draining(), /*keep_sessions=*/journal_domain().empty());
  for (absl::AnyInvocable<void()>& drained : drained_) parts_.core.WhenIdle(std::move(drained));
  drained_.clear();
}

void WorkerStatus::HandOver() {
  parts_.core.Refuse(Draining());
  parts_.core.FailAll(Draining());
}

void WorkerStatus::OnUnlinked() {
  if (accepting_ && state_ == v1::WORKER_STATE_DRAINING) RefuseNew();
}

void WorkerStatus::Undrain() {
  if (state_ != v1::WORKER_STATE_DRAINING) return;
  ++drains_;
  accepting_ = false;
  drained_.clear();
  parts_.core.Refuse(absl::OkStatus());
  SetState(v1::WORKER_STATE_READY, "ready");
}

void WorkerStatus::Fail(const absl::Status& error) {
  state_before_stall_ = v1::WORKER_STATE_UNSPECIFIED;
  SetState(v1::WORKER_STATE_UNHEALTHY, std::string(error.message()));
  parts_.core.Refuse(error);
  parts_.core.FailAll(error);
}

// Rule 25: past its own budget a step counts as stalled, and its streams go elsewhere.
void WorkerStatus::WatchSteps() {
  absl::Duration since, budget;
  const bool in_flight = parts_.engine.StepInFlight(&since, &budget);
  const absl::Duration now = parts_.clock.Monotonic();
  const bool stood_still = now - std::exchange(watched_at_, now) > kWatchInterval + kLateWatch;
  // Once a step, and none that was given up: else a worker that is always late would keep every step.
  if (stood_still && in_flight && since != forgiven_ && state_ != v1::WORKER_STATE_UNHEALTHY) {
    forgiven_ = since;
    resumed_at_ = now;
  }
  const bool stalled = in_flight && now - (since == forgiven_ ? resumed_at_ : since) > budget;
  if (stalled && state_ != v1::WORKER_STATE_UNHEALTHY) {
    const v1::WorkerState before = state_;
    Fail(rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST",
                              absl::StrCat("STALLED: a step has run for more than ", absl::FormatDuration(budget))));
    state_before_stall_ = before;
  } else if (!stalled && state_before_stall_ != v1::WORKER_STATE_UNSPECIFIED) {
    const bool draining = std::exchange(state_before_stall_, v1::WORKER_STATE_UNSPECIFIED) == v1::WORKER_STATE_DRAINING;
    SetState(draining ? v1::WORKER_STATE_DRAINING : v1::WORKER_STATE_READY, draining ? "draining" : "ready");
    if (draining) {
      RefuseNew();
    } else {
      parts_.core.Refuse(absl::OkStatus());
    }
  }
  parts_.shard.After(kWatchInterval, [this] { WatchSteps(); });
}

int WorkerStatus::running() const { return parts_.engine.Stats().running; }
int WorkerStatus::waiting() const { return parts_.engine.Stats().waiting + parts_.core.preparing(); }

v1::LoadReport WorkerStatus::Load(int links) const {
  const engine::EngineStats stats = parts_.engine.Stats();
  v1::LoadReport load;
  load.set_state(state_);
  // A prompt that is being encoded waits for nobody: gateways take `waiting` for a worker that is full.
  load.set_running(stats.running + parts_.core.preparing());
  load.set_waiting(stats.waiting);
  load.set_slots(stats.slots);
  load.set_kv_blocks_total(stats.kv_blocks_total);
  load.set_kv_blocks_used(stats.kv_blocks_used);
  load.set_kv_blocks_cached(stats.kv_blocks_cached);
  load.set_waiting_prompt_tokens(stats.waiting_prompt_tokens);
  load.set_open_sessions(parts_.sessions.open_sessions());
  load.set_submit_credit(SubmitCredit(stats.slots, parts_.core.options().max_requests, links));
  load.set_step_budget_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(stats.step_budget)));
  load.set_attached_gateways(links);
  return load;
}

v1::Model WorkerStatus::Model() const {
  const ServedModel& served = parts_.core.model();
  v1::Model model;
  model.set_name(served.name);
  model.set_context_length(served.context_length);
  model.set_vocabulary_size(served.tokenizer->size());
  model.mutable_eos_token_ids()->Add(served.eos_ids.begin(), served.eos_ids.end());
  model.set_fingerprint(served.fingerprint);
  model.set_family(served.family);
  model.set_has_chat_template(served.chat_template != nullptr);
  return model;
}

void WorkerStatus::SetState(v1::WorkerState state, const std::string& words) {
  state_ = state;
  if (parts_.on_change) parts_.on_change(words);
  parts_.health.SetReady(state == v1::WORKER_STATE_READY);
}

}  // namespace berth::service
