#include "worker/service/link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "google/protobuf/arena.h"
#include "proto/rpc/status.h"

namespace berth::service {
namespace {

absl::Status Invalid(absl::string_view message) { return absl::InvalidArgumentError(message); }

// Holds a step of some 400 streams. Taken anew for each frame it would be given back to the system each time.
constexpr size_t kArenaBytes = 128 << 10;

google::protobuf::ArenaOptions ArenaOptions(char* block) {
  google::protobuf::ArenaOptions options;
  options.initial_block = block;
  options.initial_block_size = kArenaBytes;
  options.max_block_size = 64 << 10;
  return options;
}

}  // namespace

Link::Link(const LinkOptions& options, const Parts& parts, std::shared_ptr<Call> call)
    : options_(options),
      parts_(parts),
      call_(std::move(call)),
      last_sent_(parts.clock.Monotonic()),
      pace_(options.merge_share, options.merge_time),
      arena_block_(std::make_unique_for_overwrite<char[]>(kArenaBytes)) {}

void Link::Listen() {
  call_->OnRead([self = shared_from_this()](v1::AttachRequest& request) { self->Read(request); });
  call_->OnReadsDone([self = shared_from_this()] { self->Close(absl::OkStatus()); });
  call_->OnCancel([self = shared_from_this()] { self->Park(); });
  call_->OnWritten([self = shared_from_this()] { self->Flush(false); });
}

void Link::Close(const absl::Status& status) {
  Park();
  call_->Finish(status);
}

void Link::Park() {
  if (std::exchange(closed_, true)) return;
  for (const auto& [id, request] : streams_) {
    request->queued = false;
    parts_.core.Park(*request, gateway_id_);
  }
  streams_.clear();
  waiting_.clear();
  ready_.clear();
  parts_.hub.Unregister(*this);
}

void Link::Read(v1::AttachRequest& request) {
  if (closed_) return;
  if (!greeted_) {
    if (const absl::Status status = Greet(request.hello()); !status.ok()) return Close(status);
  }
  Acknowledge(request.acknowledged_frame());
  for (const v1::LinkCancel& cancel : request.cancels()) Cancel(cancel);
  for (const v1::Reattach& reattach : request.reattaches()) Reattach(reattach);
  for (v1::Submit& submit : *request.mutable_submits()) {
    if (const absl::Status status = Submit(submit); !status.ok()) return Close(status);
  }
  for (const v1::PromptChunk& chunk : request.prompt_chunks()) AddChunk(chunk);
  Flush(!hello_sent_);
}

absl::Status Link::Greet(const v1::GatewayHello& hello) {
  if (hello.gateway_id().empty()) return Invalid("hello.gateway_id: is missing in the first message");
  const v1::Incarnation& mine = parts_.status.identity().incarnation;
  if (hello.has_expected_incarnation() && IncarnationNumber(hello.expected_incarnation()) != IncarnationNumber(mine)) {
    return rpc::ErrorWithReason(absl::StatusCode::kFailedPrecondition, "OTHER_INCARNATION",
                                absl::StrCat("this is incarnation ", IncarnationNumber(mine), ", not ",
                                             IncarnationNumber(hello.expected_incarnation())));
  }
  gateway_id_ = hello.gateway_id();
  epoch_ = hello.epoch();
  BERTH_RETURN_IF_ERROR(parts_.hub.Register(shared_from_this()));
  if (!hello.has_expected_incarnation()) parts_.core.DropParked(gateway_id_);
  greeted_ = true;
  Heartbeat();
  return absl::OkStatus();
}

void Link::Acknowledge(uint64_t frame) {
  while (!unacknowledged_.empty() && unacknowledged_.front().frame <= frame) {
    unacknowledged_bytes_ -= unacknowledged_.front().bytes;
    unacknowledged_.pop_front();
  }
}

void Link::Cancel(const v1::LinkCancel& cancel) {
  bool found = false;
  if (cancel.stream_id() == 0) {
    Request* request = parts_.core.Find(cancel.tenant(), cancel.request_id(), cancel.session_id());
    found = request != nullptr && parts_.core.Cancel(*request);
  } else if (const auto stream = streams_.find(cancel.stream_id()); stream != streams_.end()) {
    found = parts_.core.Cancel(*stream->second);
  } else if (waiting_.erase(cancel.stream_id()) > 0) {
    found = true;
    Refuse(cancel.stream_id(), absl::CancelledError("cancelled before its prompt had arrived"));
  }
  v1::StreamEvent& answer = answers_.emplace_back();
  answer.set_stream_id(cancel.stream_id());
  answer.mutable_cancel_answer()->set_request_id(cancel.request_id());
  answer.mutable_cancel_answer()->set_found(found);
  answer.mutable_cancel_answer()->set_cancel_id(cancel.cancel_id());
}

void Link::Reattach(const v1::Reattach& reattach) {
  const uint64_t id = reattach.stream_id();
  absl::StatusOr<Request*> request = parts_.core.Reattach(reattach, gateway_id_, *this, id);
  if (!request.ok()) return Refuse(id, request.status());
  streams_[id] = *request;
  parts_.metrics.CountReattached();
  v1::StreamEvent& answer = answers_.emplace_back();
  answer.set_stream_id(id);
  answer.mutable_reattached();
  if ((*request)->has_events()) OnEvents(**request);
}

absl::Status Link::Submit(v1::Submit& submit) {
  const uint64_t id = submit.stream_id();
  if (id == 0) return Invalid("submits.stream_id: is 0");
  if (streams_.contains(id) || waiting_.contains(id)) return Invalid(absl::StrCat("submits.stream_id: ", id, " is in use"));
  const size_t open = streams_.size() + waiting_.size();
  if (hello_sent_ && open >= static_cast<size_t>(std::max(credit_, credit_before_))) {
    Refuse(id,
           rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                                                    absl::StrCat("the link has ", open, " requests, its credit is ", credit_)),
                               options_.heartbeat));
  } else if (submit.prompt_follows()) {
    waiting_[id].submit = std::move(submit);
  } else {
    Run(id, submit);
  }
  return absl::OkStatus();
}

void Link::AddChunk(const v1::PromptChunk& chunk) {
  const auto found = waiting_.find(chunk.stream_id());
  if (found == waiting_.end()) return;  // cancelled or refused meanwhile
  Waiting& waiting = found->second;
  waiting.prompt.append(chunk.data());
  if (waiting.prompt.size() > options_.max_prompt_bytes) {
    waiting_.erase(found);
    return Refuse(chunk.stream_id(),
                  rpc::FieldError("prompt", absl::StrCat("is larger than ", options_.max_prompt_bytes, " bytes")));
  }
  if (!chunk.last()) return;
  Waiting whole = std::move(waiting);
  waiting_.erase(found);
  if (!whole.submit.mutable_generation()->mutable_prompt()->ParseFromString(whole.prompt)) {
    return Refuse(chunk.stream_id(), rpc::FieldError("prompt", "its chunks are no Prompt, or not UTF-8"));
  }
  Run(chunk.stream_id(), whole.submit);
}

void Link::Run(uint64_t stream_id, v1::Submit& submit) {
  Submission submission{.tenant = submit.tenant(),
                        .affinity = submit.affinity(),
                        .lost_holders = {submit.lost_holders().begin(), submit.lost_holders().end()},
                        .suspect = submit.suspect()};
  if (submit.has_timeout()) {
    submission.timeout = absl::Seconds(submit.timeout().seconds()) + absl::Nanoseconds(submit.timeout().nanos());
  }
  submission.spec = std::make_shared<const v1::GenerationSpec>(std::move(*submit.mutable_generation()));
  streams_[stream_id] = parts_.core.Submit(std::move(submission), *this, stream_id);
}

void Link::Refuse(uint64_t stream_id, const absl::Status& error) {
  v1::StreamEvent& event = answers_.emplace_back();
  event.set_stream_id(stream_id);
  *event.mutable_error() = rpc::ToProto(error);
}

void Link::OnEvents(Request& request) {
  if (!std::exchange(request.queued, true)) ready_.push_back(&request);
  if (!parts_.core.in_batch()) ScheduleFlush();
}

void Link::OnTakenOver(Request& request) {
  streams_.erase(request.stream_id);
  std::erase(ready_, &request);
  request.queued = false;
  Refuse(request.stream_id,
         rpc::ErrorWithReason(absl::StatusCode::kAborted, "TAKEN_OVER", "another call took the request over"));
  ScheduleFlush();
}

void Link::OnStep(uint64_t step, absl::Duration step_time) {
  step_ = step;
  if (step_time > absl::ZeroDuration()) step_time_ = step_time;
  if (ready_.empty()) return;
  const absl::Duration begin = parts_.clock.Monotonic();
  if (pace_.Delay(begin) > absl::ZeroDuration()) return ScheduleFlush();
  Flush(false);
  pace_.Took(parts_.clock.Monotonic() - begin);
}

// Sends soon: at once when sending is cheap, else when enough has been merged.
void Link::ScheduleFlush() {
  if (std::exchange(flush_scheduled_, true)) return;
  parts_.hub.shard().After(pace_.Delay(parts_.clock.Monotonic()), [weak = weak_from_this()] {
    const std::shared_ptr<Link> self = weak.lock();
    if (self == nullptr) return;
    self->flush_scheduled_ = false;
    self->Flush(false);
  });
}

bool Link::has_credit() const {
  return unacknowledged_bytes_ < options_.unacknowledged_bytes &&
         (unacknowledged_.empty() || parts_.clock.Monotonic() - unacknowledged_.front().at < options_.unacknowledged_time);
}

void Link::Flush(bool heartbeat) {
  if (closed_ || call_->writing() || !has_credit()) return;
  if (ready_.empty() && answers_.empty() && !heartbeat) return;
  // Else each delta would be an allocation or three.
  google::protobuf::Arena arena(ArenaOptions(arena_block_.get()));
  v1::AttachResponse& frame = *google::protobuf::Arena::CreateMessage<v1::AttachResponse>(&arena);
  const int64_t bytes = TakeEvents(frame);
  frame.set_epoch(epoch_);
  frame.set_frame(++frames_);
  frame.set_step(step_);
  frame.set_step_time_micros(static_cast<uint32_t>(absl::ToInt64Microseconds(step_time_)));
  *frame.mutable_load() = parts_.status.Load(parts_.hub.links());
  credit_before_ = credit_;
  credit_ = frame.load().submit_credit();
  if (!std::exchange(hello_sent_, true)) {
    const WorkerIdentity& identity = parts_.status.identity();
    v1::WorkerHello& hello = *frame.mutable_hello();
    hello.set_worker_id(identity.worker_id);
    *hello.mutable_incarnation() = identity.incarnation;
    hello.set_epoch(epoch_);
    *hello.add_models() = parts_.status.Model();
    hello.set_attached_gateways(parts_.hub.links());
    hello.mutable_joined()->set_seconds(absl::ToUnixSeconds(identity.joined));
    hello.set_journal_domain(parts_.status.journal_domain());
  }
  last_sent_ = parts_.clock.Monotonic();
  pace_.Sent(last_sent_);
  if (!frame.events().empty()) {
    unacknowledged_.push_back({.frame = frames_, .bytes = bytes, .at = last_sent_});
    unacknowledged_bytes_ += bytes;
  }
  parts_.metrics.CountFrame(frame.events_size());
  if (!frame.events().empty() && !frame.has_hello() && parts_.hub.LosesNextFrame()) return;
  call_->Write(frame);
}

// Moves answers and streams' events into the frame until its budget is spent; the rest goes with the next one.
int64_t Link::TakeEvents(v1::AttachResponse& frame) {
  int64_t budget = options_.frame_bytes;
  while (!answers_.empty() && budget > 0) {
    budget -= static_cast<int64_t>(answers_.front().ByteSizeLong()) + 4;
    *frame.add_events() = std::move(answers_.front());
    answers_.pop_front();
  }
  size_t taken = 0;
  while (taken < ready_.size() && budget > 0) {
    Request& request = *ready_[taken];
    if (request.TakeEvents(&budget, frame.mutable_events())) {
      request.queued = false;
      streams_.erase(request.stream_id);
      parts_.core.Release(request);
    } else if (request.has_events()) {
      break;
    } else {
      request.queued = false;
    }
    ++taken;
  }
  ready_.erase(ready_.begin(), ready_.begin() + static_cast<ptrdiff_t>(taken));
  return options_.frame_bytes - budget;
}

// A timer of its own per silence, not per frame.
void Link::Heartbeat() {
  if (closed_) return;
  const absl::Duration silent = parts_.clock.Monotonic() - last_sent_;
  if (silent >= options_.heartbeat) Flush(true);
  const absl::Duration next = silent >= options_.heartbeat ? options_.heartbeat : options_.heartbeat - silent;
  parts_.hub.shard().After(next, [weak = weak_from_this()] {
    if (const std::shared_ptr<Link> self = weak.lock()) self->Heartbeat();
  });
}

}  // namespace berth::service
