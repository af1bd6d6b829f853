#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/heap_trimmer.h"
#include "base/lru_map.h"
#include "proto/berth/v1/worker.pb.h"
#include "proto/rpc/shard.h"
#include "worker/engine/engine.h"
#include "worker/service/metrics.h"
#include "worker/service/request.h"
#include "worker/service/served_model.h"
#include "worker/service/tokenizer_pool.h"
#include "worker/session/session_store.h"

namespace berth::service {

struct CoreOptions {
  std::string worker_id;
  uint64_t incarnation = 0;  // as Started tells it
  int max_requests = 256;    // running and waiting; beyond it requests are refused
  absl::Duration park_time = absl::Seconds(10);
};

// Runs generations: checks, claims sessions, renders and encodes on the tokenizer pool, feeds the engine, turns its updates
// into the token logs of the requests' choices, and ends them. Everything happens on the shard's thread, the I/O thread.
class GenerationCore {
 public:
  struct Parts {
    const ServedModel& model;
    engine::Engine& engine;
    session::SessionStore& sessions;
    TokenizerPool& pool;
    rpc::Shard& shard;
    Metrics& metrics;
    const base::Clock& clock;
  };
  GenerationCore(const CoreOptions& options, const Parts& parts);

  // The request lives until the sink releases or drops it; errors are events too. With the id of a running request and `resume`
  // the running one is taken over and returned. Null when it is over already and the sink has released it.
  Request* Submit(Submission submission, RequestSink& sink, uint64_t stream_id);
  // The last event was taken.
  void Release(Request& request);
  // The sink is gone for good: what was sent is kept, the rest ends.
  void Drop(Request& request);
  // Ends a request from inside: the sink still gets its end. False when it was ending already.
  bool Cancel(Request& request);
  // Null when none of this tenant runs under this id; with an empty id: the running turn of the session.
  Request* Find(const std::string& tenant, const std::string& request_id, const std::string& session_id = "");

  // The sink's link broke: the request runs on without one, for `park_time`.
  void Park(Request& request, const std::string& gateway_id);
  // NOT_FOUND "NOT_PARKED" when this gateway has no such request parked. Events follow from the tokens it lacks.
  absl::StatusOr<Request*> Reattach(const v1::Reattach& reattach, const std::string& gateway_id, RequestSink& sink,
                                    uint64_t stream_id);

  // One batch of the step ring.
  void OnSteps(std::vector<engine::StepOutput> steps);
  // True while a batch is worked on: sinks wait for its end.
  bool in_batch() const { return in_batch_; }
  // Runs after each batch; the last step's number and time.
  void OnBatchEnd(absl::AnyInvocable<void(uint64_t, absl::Duration)> callback) { on_batch_end_ = std::move(callback); }

  // The gateway has given up what is parked for it: it runs elsewhere, or comes again as a new request.
  void DropParked(const std::string& gateway_id);

  // Submits are refused with this error; OK: they are taken again. With `keep_sessions` follow-up turns are taken still.
  void Refuse(const absl::Status& error, bool keep_sessions = false) {
    refusal_ = error;
    keep_sessions_ = keep_sessions;
  }
  // Ends every running request with an error.
  void FailAll(const absl::Status& error);
  // Runs when the last request is gone, at once if none is there.
  void WhenIdle(absl::AnyInvocable<void()> callback);

  int requests() const { return static_cast<int>(requests_.size()); }
  // Requests that the engine does not have yet. Any thread.
  int preparing() const { return preparing_; }
  const ServedModel& model() const { return parts_.model; }
  const CoreOptions& options() const { return options_; }

  // Since the last request of a session that only routes; nothing when this worker has not seen it, or not for long.
  std::optional<absl::Duration> IdleOf(const std::string& tenant, const std::string& session_id) const;

 private:
  static uint64_t AffinityKey(const std::string& tenant, const std::string& session_id);
  void SeeAffinity(Submission& submission);
  void TakeOver(Request& request, const v1::ResumeFrom& resume, RequestSink& sink, uint64_t stream_id);
  absl::Status Admit(const Submission& submission) const;
  void BeginTurn(Request& request);
  void OnTurn(uint64_t serial, absl::StatusOr<session::Turn> turn);
  void GoOn(Request& request);
  void DropWork(Request& request);
  void AnswerAgain(Request& request);
  void Prepare(Request& request);
  void OnPrepared(uint64_t serial, int attempt, absl::StatusOr<PreparedPrompt> prompt);
  void StartPrepared();
  absl::Status Start(Request& request);
  void FillStarted(Request& request, int prompt_tokens) const;
  OutputRules OutputRulesFor(const Request& request, int choice) const;
  std::unique_ptr<ChoiceOutput> MakeOutput(const Request& request, const OutputRules& rules) const;
  void Replay(Request& request, Choice& choice, const v1::ResumeFrom::Choice& given, int max_tokens);
  int MaxTokens(const Request& request) const;
  std::vector<int32_t> StopTokens(const Request& request) const;
  engine::SequenceSpec MakeSequence(const Request& request, int choice, int max_tokens);
  void Apply(const engine::SequenceUpdate& update, absl::Duration now);
  void Record(Request& request, const engine::SequenceUpdate& update, absl::Duration now);
  void FinishChoice(Request& request, Choice& choice, v1::FinishReason reason);
  void NotifySink(Request& request);
  void EndWork(Request& request);
  void FailWork(Request& request, const absl::Status& error);
  void StopSequences(Request& request);
  void EndUnfinished(Request& request, v1::FinishReason reason);
  void Fail(Request& request, const absl::Status& error);
  void End(Request& request);
  void OnCommitted(uint64_t serial, absl::StatusOr<int64_t> position);
  void Finalize(Request& request);
  void Erase(Request& request);
  void SetPhase(Request& request, Request::Phase phase);
  Request* FindSerial(uint64_t serial);
  void ForEachRequest(absl::FunctionRef<void(Request&)> function);

  const CoreOptions options_;
  const Parts parts_;
  absl::AnyInvocable<void(uint64_t, absl::Duration)> on_batch_end_;
  bool in_batch_ = false;
  absl::Status refusal_;
  // When sessions that only route were last seen here, by AffinityKey.
  base::LruMap<uint64_t, absl::Duration> seen_{size_t{1} << 17};
  bool keep_sessions_ = false;
  std::vector<absl::AnyInvocable<void()>> when_idle_;
  std::mt19937_64 seeds_;
  uint64_t next_serial_ = 1;
  engine::SequenceId next_sequence_ = 1;
  std::atomic<int> preparing_ = 0;
  std::deque<uint64_t> prepared_;  // serials of requests that have a prompt and are about to start
  absl::flat_hash_map<uint64_t, std::unique_ptr<Request>> requests_;
  base::HeapTrimmer heap_trimmer_;
  absl::flat_hash_map<std::pair<std::string, std::string>, Request*> by_id_;
  absl::flat_hash_map<engine::SequenceId, std::pair<Request*, int>> sequences_;
};

// The ErrorInfo reason that SessionStore writes as its messages' first word, made a detail.
absl::Status SessionError(const absl::Status& status);

// Of UpdateDetails::error.
absl::Status EngineError(const std::string& error);

}  // namespace berth::service
