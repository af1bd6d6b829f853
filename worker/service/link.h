#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "proto/berth/v1/worker.pb.h"
#include "proto/rpc/server_call.h"
#include "worker/service/generation_core.h"
#include "worker/service/link_options.h"
#include "worker/service/metrics.h"
#include "worker/service/send_pace.h"
#include "worker/service/worker_status.h"

namespace berth::service {

class LinkHub;

// WorkerService.Attach of one gateway: submits, cancels and reattaches in; one frame per engine step out, made of what the
// streams' token logs hold beyond what was sent. Thread: I/O thread.
class Link : public RequestSink, public std::enable_shared_from_this<Link> {
 public:
  using Call = rpc::BidiCall<v1::AttachRequest, v1::AttachResponse>;

  struct Parts {
    LinkHub& hub;
    GenerationCore& core;
    WorkerStatus& status;
    Metrics& metrics;
    const base::Clock& clock;
  };
  Link(const LinkOptions& options, const Parts& parts, std::shared_ptr<Call> call);

  // Sets the call's callbacks.
  void Listen();
  // A step ended: sends its frame, or merges it with the next.
  void OnStep(uint64_t step, absl::Duration step_time);
  // Ends the call; its streams wait for a reattach.
  void Close(const absl::Status& status);

  const std::string& gateway_id() const { return gateway_id_; }
  uint64_t epoch() const { return epoch_; }

  void OnEvents(Request& request) override;
  void OnTakenOver(Request& request) override;

 private:
  struct Sent {
    uint64_t frame = 0;
    int64_t bytes = 0;
    absl::Duration at;
  };
  // A submit whose prompt has not arrived yet.
  struct Waiting {
    v1::Submit submit;
    std::string prompt;
  };

  void Read(v1::AttachRequest& request);
  absl::Status Greet(const v1::GatewayHello& hello);
  void Acknowledge(uint64_t frame);
  void Cancel(const v1::LinkCancel& cancel);
  void Reattach(const v1::Reattach& reattach);
  absl::Status Submit(v1::Submit& submit);
  void AddChunk(const v1::PromptChunk& chunk);
  void Run(uint64_t stream_id, v1::Submit& submit);
  void Refuse(uint64_t stream_id, const absl::Status& error);
  void Park();
  bool has_credit() const;
  void ScheduleFlush();
  void Flush(bool heartbeat);
  // The size of what it moved.
  int64_t TakeEvents(v1::AttachResponse& frame);
  void Heartbeat();

  const LinkOptions options_;
  const Parts parts_;
  const std::shared_ptr<Call> call_;
  std::string gateway_id_;
  uint64_t epoch_ = 0;
  bool greeted_ = false, hello_sent_ = false, closed_ = false;

  absl::flat_hash_map<uint64_t, Request*> streams_;
  absl::flat_hash_map<uint64_t, Waiting> waiting_;
  std::vector<Request*> ready_;          // that have events, in order
  std::deque<v1::StreamEvent> answers_;  // go before the streams' events
  bool flush_scheduled_ = false;

  uint64_t frames_ = 0;
  std::deque<Sent> unacknowledged_;
  int64_t unacknowledged_bytes_ = 0;
  absl::Duration last_sent_;
  SendPace pace_;
  const std::unique_ptr<char[]> arena_block_;  // of frames
  uint64_t step_ = 0;
  absl::Duration step_time_;
  int credit_ = 0, credit_before_ = 0;  // as sent
};

// All links of the worker; at most one per gateway.
class LinkHub {
 public:
  LinkHub(const LinkOptions& options, GenerationCore& core, WorkerStatus& status, Metrics& metrics, rpc::Shard& shard,
          const base::Clock& clock)
      : options_(options), core_(core), status_(status), metrics_(metrics), shard_(shard), clock_(clock) {}

  void Accept(std::shared_ptr<Link::Call> call);
  void OnStep(uint64_t step, absl::Duration step_time);
  void CloseAll(const absl::Status& status);
  int links() const { return static_cast<int>(links_.size()); }
  rpc::Shard& shard() { return shard_; }
  // Counts a frame with events.
  bool LosesNextFrame() { return options_.drop_write > 0 && ++frames_with_events_ % options_.drop_write == 0; }

  // For links. A link whose gateway has said hello replaces that gateway's older one; ABORTED when it is the older one itself.
  absl::Status Register(const std::shared_ptr<Link>& link);
  void Unregister(Link& link);

 private:
  const LinkOptions options_;
  GenerationCore& core_;
  WorkerStatus& status_;
  Metrics& metrics_;
  rpc::Shard& shard_;
  const base::Clock& clock_;
  absl::flat_hash_map<std::string, std::shared_ptr<Link>> links_;
  uint64_t frames_with_events_ = 0;
};

}  // namespace berth::service
