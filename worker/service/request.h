#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "proto/berth/v1/worker.pb.h"
#include "proto/rpc/shard.h"
#include "worker/engine/sequence.h"
#include "worker/service/choice_output.h"
#include "worker/service/prompt.h"
#include "worker/service/prompt_scores.h"
#include "worker/session/session_store.h"

namespace berth::service {

struct Request;

// Where a request's events go: a link's stream or a direct caller's call. Thread: I/O thread.
class RequestSink {
 public:
  virtual ~RequestSink() = default;
  // `request` has events to take, now or later.
  virtual void OnEvents(Request& request) = 0;
  // Another call took the request over: this one's stream ends.
  virtual void OnTakenOver(Request& request) = 0;
};

// A generation as it came in, from whichever call.
struct Submission {
  std::shared_ptr<const v1::GenerationSpec> spec;
  std::string tenant;
  absl::Duration timeout = absl::InfiniteDuration();
  v1::Affinity affinity = v1::AFFINITY_UNSPECIFIED;
  std::vector<std::string> lost_holders;
  bool suspect = false;  // prefilled while nothing else is

  bool interactive() const { return spec->session().mode() == v1::SESSION_MODE_INTERACTIVE; }
  // A turn of a session that is open.
  bool follow_up() const { return interactive() && !spec->session().start(); }
};

struct Choice {
  std::unique_ptr<ChoiceOutput> output;
  engine::SequenceId sequence = 0;  // 0: not in the engine
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
  bool finished() const { return reason != v1::FINISH_REASON_UNSPECIFIED; }
};

// One running generation. GenerationCore drives it; its sink takes events from it. Thread: I/O thread.
struct Request {
  enum class Phase { kClaiming, kPreparing, kRunning, kCommitting, kEnded };

  uint64_t serial = 0;
  std::string id;
  Submission submission;
  Phase phase = Phase::kPreparing;
  bool registered = false;  // under (tenant, id)

  RequestSink* sink = nullptr;  // null: parked, or nobody wants the rest
  uint64_t stream_id = 0;       // the sink's
  bool queued = false;          // the sink's: it has noted that there are events
  std::string parked_by;        // gateway; empty: not parked
  rpc::Shard::TimerId park_timer{};

  // Of an interactive turn: while its claim is under way, work goes on from an assumed history, but no event leaves, nothing is
  // committed, and the work's end waits.
  bool claiming = false, end_waits = false;
  bool ends_early = false;                          // whatever the claim brings
  std::shared_ptr<const session::History> history;  // what the prompt goes on from; null: nothing
  int attempt = 0;                                  // of preparing; an assumption that was wrong begins another
  std::optional<session::Turn> turn;

  PreparedPrompt prompt;
  int prompt_tokens = 0;
  int cached_tokens = 0;
  PromptScores prompt_scores;  // of none, unless they are asked for
  std::vector<Choice> choices;

  bool started_ready = false, started_sent = false;
  v1::Started started;
  absl::Status error;  // the end of a request that failed
  v1::Finished finished;

  absl::Duration arrived;  // monotonic
  absl::Duration started_at = absl::InfiniteDuration();
  absl::Duration first_token_at = absl::InfiniteDuration();
  absl::Duration last_token_at;

  const v1::GenerationSpec& spec() const { return *submission.spec; }
  bool interactive() const { return submission.interactive(); }
  bool ended() const { return phase == Phase::kEnded; }
  // The engine computes its prompt.
  bool prefilling() const { return phase == Phase::kRunning && !end_waits && first_token_at == absl::InfiniteDuration(); }
  bool has_events() const;
  // Appends events in order, as much as fits into `budget` bytes, which it charges. Only when there are any. True when the last
  // event was appended: the request is to be released.
  bool TakeEvents(int64_t* budget, google::protobuf::RepeatedPtrField<v1::StreamEvent>* events);
  // What a peer that has so many output tokens per choice, and log-probabilities of the prompt, still lacks is to be sent
  // again.
  void SetSent(const std::vector<int>& tokens, int prompt_logprobs);
};

}  // namespace berth::service
