#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/random/bit_gen_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/relay/outbox.h"
#include "proto/berth/v1/generation.pb.h"
#include "proto/berth/v1/inference.pb.h"
#include "proto/berth/v1/worker.pb.h"
#include "proto/rpc/api_keys.h"

namespace berth::relay {

// A generation as a caller asks for it.
struct GenerationRequest {
  // Authenticated.
  std::string tenant;
  v1::GenerationSpec spec;
  // Of base::Clock::Monotonic.
  absl::Duration deadline = absl::InfiniteDuration();
  // Dropped when it is not plain ASCII.
  std::string traceparent;
  // "worker_id/incarnation" that an earlier turn of the session ran at, as the caller says; "": not known.
  std::string worker_hint;
  // Null: none.
  std::shared_ptr<const rpc::Tenant> limits;
  // Another prompt of a list, whose first one counts as the request.
  bool further = false;
};

// Checks what the gateway itself and its links rely on, and fixes what must be the same on every worker that ever runs the
// request: id, seed, template clock, choice count. INVALID_ARGUMENT names the field.
absl::Status FixGeneration(v1::GenerationSpec& spec, absl::BitGenRef random, absl::Time now);

// The same of a cancel, which may go to every worker.
absl::Status CheckCancel(const v1::CancelRequest& request);

// A session's follow-up turn, whose history is at one worker.
bool IsFollowUp(const v1::GenerationSpec& spec);

// One caller's generation over all its attempts: turns what workers report into the caller's messages, and keeps the token ids
// of every choice, so that another worker can go on. Pure. Thread: one owner.
class GenerationStream {
 public:
  explicit GenerationStream(GenerationRequest request);

  const GenerationRequest& request() const { return request_; }
  Outbox& outbox() { return outbox_; }
  // Messages pushed, before they are taken.
  bool started() const { return started_; }
  bool has_tokens() const { return has_tokens_; }
  bool finished() const { return finished_; }

  // Events of the running attempt. INTERNAL when a delta does not follow the tokens that came before it.
  absl::Status OnStarted(const v1::Started& started);
  absl::Status OnDelta(v1::Delta& delta);
  void OnFinished(v1::Finished& finished);

  // The running attempt's worker was lost. What goes to the next one; `Resumed` follows when it reports a start.
  v1::GenerationSpec ResumeSpec(const std::string& lost_worker);
  // Of the model that began to answer; 0 before.
  uint64_t fingerprint() const { return progress_.model_fingerprint(); }
  // "worker_id/incarnation" of the attempts that were lost after their start.
  const std::vector<std::string>& lost_holders() const { return lost_holders_; }
  // Per choice, as Reattach names them.
  std::vector<int32_t> received_tokens() const;
  int32_t received_prompt_logprobs() const { return progress_.prompt_logprobs(); }
  // Received, of all choices.
  int64_t output_tokens() const;
  // Of the prompt and the output, as the worker counted them at the end; 0 before.
  int64_t used_tokens() const { return used_tokens_; }
  v1::Affinity affinity() const { return affinity_; }
  const std::string& worker_id() const { return worker_id_; }
  uint64_t worker_incarnation() const { return worker_incarnation_; }

 private:
  void Push(v1::StreamGenerateResponse message);

  GenerationRequest request_;
  Outbox outbox_;
  v1::ResumeFrom progress_;
  bool started_ = false, has_tokens_ = false, finished_ = false, first_pushed_ = false;
  bool resuming_ = false;
  int64_t used_tokens_ = 0;
  std::string lost_worker_;
  std::string worker_id_;
  uint64_t worker_incarnation_ = 0;
  v1::Affinity affinity_ = v1::AFFINITY_UNSPECIFIED;
  std::vector<std::string> lost_holders_;
};

}  // namespace berth::relay
