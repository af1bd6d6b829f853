#include "worker/service/direct_calls.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "proto/rpc/collector.h"
#include "proto/rpc/deadline.h"
#include "proto/rpc/status.h"

namespace berth::service {
namespace {

using Events = google::protobuf::RepeatedPtrField<v1::StreamEvent>;

constexpr int64_t kBudget = 64 << 10;  // of events waiting for one call's writes

template <typename Call>
Submission SubmissionOf(Call& call, const std::string& tenant) {
  Submission submission{.tenant = tenant, .timeout = rpc::TimeLeft(call.context())};
  submission.spec = std::make_shared<const v1::GenerationSpec>(std::move(*call.request().mutable_generation()));
  return submission;
}

absl::Status TakenOver() {
  return rpc::ErrorWithReason(absl::StatusCode::kAborted, "TAKEN_OVER", "another call took the request over");
}

// OK: the event is part of the answer.
absl::Status ErrorOf(const v1::StreamEvent& event, const grpc::ServerContext& context) {
  if (event.has_error()) return rpc::FromProto(event.error());
  const bool late = event.has_finished() && rpc::CutShort(event.finished(), rpc::TimeLeft(context));
  return late ? rpc::DeadlineError() : absl::OkStatus();
}

// What a caller is told of an event that is no error.
void MoveEvent(v1::StreamEvent& event, bool token_ids, v1::StreamGenerateResponse* message) {
  if (event.has_started()) message->mutable_started()->Swap(event.mutable_started());
  if (event.has_delta()) {
    if (!token_ids) event.mutable_delta()->clear_token_ids();
    message->mutable_delta()->Swap(event.mutable_delta());
  }
  if (event.has_finished()) message->mutable_finished()->Swap(event.mutable_finished());
}

// One call's end of a request; owned by the call's callbacks.
class StreamSink : public RequestSink {
 public:
  StreamSink(GenerationCore& core, std::shared_ptr<StreamGenerateCall> call) : core_(core), call_(std::move(call)) {}

  void Run(const std::string& tenant) {
    const v1::GenerationSpec& spec = call_->request().generation();
    token_ids_ = spec.output().token_ids();
    seq_ = spec.resume().next_seq();
    request_ = core_.Submit(SubmissionOf(*call_, tenant), *this, 0);
  }
  void OnEvents(Request& request) override {
    request_ = &request;
    Send();
  }
  void OnTakenOver(Request&) override {
    request_ = nullptr;
    call_->Finish(TakenOver());
  }
  void OnCallerGone() {
    if (request_ != nullptr) core_.Drop(*std::exchange(request_, nullptr));
  }

  void Send() {
    if (call_->writing() || call_->ended()) return;
    if (next_ == events_.size() && !Refill()) return;
    v1::StreamEvent& event = *events_.Mutable(next_++);
    if (absl::Status error = ErrorOf(event, call_->context()); !error.ok()) return call_->Finish(error);
    v1::StreamGenerateResponse response;
    if (!named_) response.set_request_id(id_);
    named_ = true;
    response.set_seq(seq_++);
    MoveEvent(event, token_ids_, &response);
    if (response.has_finished()) return call_->WriteAndFinish(response);
    call_->Write(response, next_ < events_.size());
  }

 private:
  bool Refill() {
    events_.Clear();
    next_ = 0;
    if (request_ == nullptr || !request_->has_events()) return false;
    int64_t budget = kBudget;
    id_ = request_->id;
    if (request_->TakeEvents(&budget, &events_)) core_.Release(*std::exchange(request_, nullptr));
    return !events_.empty();
  }

  GenerationCore& core_;
  const std::shared_ptr<StreamGenerateCall> call_;
  Request* request_ = nullptr;
  std::string id_;
  Events events_;
  int next_ = 0;
  uint64_t seq_ = 0;
  bool token_ids_ = false, named_ = false;
};

class UnarySink : public RequestSink {
 public:
  UnarySink(GenerationCore& core, std::shared_ptr<GenerateCall> call) : core_(core), call_(std::move(call)) {}

  void Run(const std::string& tenant) {
    token_ids_ = call_->request().generation().output().token_ids();
    request_ = core_.Submit(SubmissionOf(*call_, tenant), *this, 0);
  }
  void OnEvents(Request& request) override {
    if (!request.ended()) return;
    request_ = nullptr;
    v1::StreamGenerateResponse named;
    named.set_request_id(request.id);
    collector_.Add(named);
    Events events;
    int64_t budget = std::numeric_limits<int64_t>::max();
    request.TakeEvents(&budget, &events);
    core_.Release(request);
    for (v1::StreamEvent& event : events) Add(event);
  }
  void OnTakenOver(Request&) override {
    request_ = nullptr;
    call_->Fail(TakenOver());
  }
  void OnCallerGone() {
    if (request_ != nullptr) core_.Drop(*std::exchange(request_, nullptr));
  }

 private:
  void Add(v1::StreamEvent& event) {
    if (absl::Status error = ErrorOf(event, call_->context()); !error.ok()) return call_->Fail(error);
    v1::StreamGenerateResponse message;
    const bool last = event.has_finished();
    MoveEvent(event, token_ids_, &message);
    collector_.Add(message);
    if (last) call_->Finish(collector_.response());
  }

  GenerationCore& core_;
  const std::shared_ptr<GenerateCall> call_;
  Request* request_ = nullptr;
  rpc::Collector collector_;
  bool token_ids_ = false;
};

}  // namespace

void StreamToCaller(GenerationCore& core, const std::string& tenant, const std::shared_ptr<StreamGenerateCall>& call) {
  auto sink = std::make_shared<StreamSink>(core, call);
  call->OnCancel([sink] { sink->OnCallerGone(); });
  call->OnWritten([sink] { sink->Send(); });
  sink->Run(tenant);
}

void AnswerCaller(GenerationCore& core, const std::string& tenant, const std::shared_ptr<GenerateCall>& call) {
  auto sink = std::make_shared<UnarySink>(core, call);
  call->OnCancel([sink] { sink->OnCallerGone(); });
  sink->Run(tenant);
}

}  // namespace berth::service
