#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/server.h"

namespace berth::gateway {

// A worker that speaks Attach in this process. It answers a submit with `max_tokens` tokens "t0 t1 …"; a text prompt "hold"
// stays open after its start until it is cancelled; "flood" sends 64 KiB deltas until it is cancelled; "refuse" is refused. It
// embeds as (1, 0), but refuses while it drains, and holds "hold" as above.
class FakeAttachWorker {
 public:
  using Call = rpc::BidiCall<v1::AttachRequest, v1::AttachResponse>;

  explicit FakeAttachWorker(std::string id) : id_(std::move(id)), server_({.shards = 1}) {
    server_.Register(worker_);
    server_.Register(session_);
    server_.Register(inference_);
    server_.AddBidi(worker_, &v1::WorkerService::AsyncService::RequestAttach, [this](auto call) { Accept(std::move(call)); });
    server_.AddUnary(session_, &v1::SessionService::AsyncService::RequestGetSession, [this](auto call) {
      v1::GetSessionResponse response;
      response.set_session_id(absl::StrCat(call->metadata("x-berth-tenant"), "/", call->request().session_id()));
      response.set_worker_id(id_);
      call->Finish(response);
    });
    server_.AddUnary(session_, &v1::SessionService::AsyncService::RequestCloseSession, [](auto call) {
      call->Fail(rpc::ErrorWithReason(absl::StatusCode::kAborted, "SESSION_BUSY", "a turn runs"));
    });
    server_.AddUnary(inference_, &v1::InferenceService::AsyncService::RequestTokenize, [](auto call) {
      v1::TokenizeResponse response;
      for (char c : call->request().prompt().text()) response.add_token_ids(c);
      call->Finish(response);
    });
    server_.AddUnary(inference_, &v1::InferenceService::AsyncService::RequestEmbed, [this](auto call) { Embed(call); });
    if (!server_.Start().ok()) std::abort();
  }
  ~FakeAttachWorker() {
    base::Notification stopped;
    server_.shard().Post([&] {
      if (call_ != nullptr) call_->Finish(absl::UnavailableError("gone"));
      call_ = nullptr;
      stopped.Notify();
    });
    stopped.Wait();
    server_.Shutdown(absl::ZeroDuration());
  }

  std::string address() { return absl::StrCat("127.0.0.1:", server_.port()); }
  const std::string& id() const { return id_; }

  // Waits until so many cancels have arrived.
  bool WaitForCancels(int count) {
    return WaitFor([&] { return cancels_ >= count; });
  }
  bool WaitForSubmits(size_t count) {
    return WaitFor([&] { return submits_.size() >= count; });
  }
  std::vector<v1::Submit> submits() {
    base::MutexLock lock(mutex_);
    return submits_;
  }
  void Drain(bool draining) {
    base::MutexLock lock(mutex_);
    draining_ = draining;
  }
  // Embed calls so far, of them those that were refused.
  std::pair<int, int> embeds() {
    base::MutexLock lock(mutex_);
    return {embeds_, refused_};
  }
  bool WaitForEmbeds(int count) {
    return WaitFor([&] { return embeds_ >= count; });
  }

 private:
  template <typename Call>
  void Embed(const std::shared_ptr<Call>& call) {
    base::MutexLock lock(mutex_);
    ++embeds_;
    changed_.NotifyAll();
    if (draining_) {
      ++refused_;
      return call->Fail(rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "DRAINING", "the worker is draining"));
    }
    if (call->request().inputs(0).text() == "hold") {
      return call->OnCancel([this] {
        base::MutexLock cancel_lock(mutex_);
        ++cancels_;
        changed_.NotifyAll();
      });
    }
    v1::EmbedResponse response;
    for (int i = 0; i < call->request().inputs_size(); ++i) {
      v1::EmbedResponse::Embedding& embedding = *response.add_embeddings();
      for (const float value : {1.0F, 0.0F}) embedding.add_values(value);
    }
    call->Finish(response);
  }

  template <typename Condition>
  bool WaitFor(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    base::MutexLock lock(mutex_);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      changed_.WaitFor(mutex_, absl::Seconds(1));
    }
    return true;
  }

  void Accept(std::shared_ptr<Call> call) {
    call_ = call;
    frames_ = 0;
    pending_.clear();
    call->OnRead([this](v1::AttachRequest& request) { Read(request); });
    call->OnReadsDone([this] { Drop(); });
    call->OnCancel([this] { Drop(); });
    call->OnWritten([this] { Flush(); });
  }
  void Drop() { call_ = nullptr; }

  void Read(v1::AttachRequest& request) {
    if (request.has_hello()) {
      v1::AttachResponse& frame = pending_.emplace_back();
      v1::WorkerHello& hello = *frame.mutable_hello();
      hello.set_worker_id(id_);
      hello.set_epoch(request.hello().epoch());
      hello.mutable_incarnation()->set_start_time_micros(1);
      v1::Model& model = *hello.add_models();
      model.set_name("m");
      model.set_context_length(4096);
      epoch_ = request.hello().epoch();
      Heartbeat();
    }
    for (const v1::LinkCancel& cancel : request.cancels()) Cancel(cancel);
    for (v1::Submit& submit : *request.mutable_submits()) {
      if (submit.prompt_follows()) {
        waiting_[submit.stream_id()] = submit;
      } else {
        Run(submit);
      }
    }
    for (const v1::PromptChunk& chunk : request.prompt_chunks()) {
      prompts_[chunk.stream_id()] += chunk.data();
      if (!chunk.last()) continue;
      v1::Submit submit = waiting_[chunk.stream_id()];
      EXPECT_TRUE(submit.mutable_generation()->mutable_prompt()->ParseFromString(prompts_[chunk.stream_id()]));
      Run(submit);
    }
    Flush();
  }

  void Run(const v1::Submit& submit) {
    {
      // Before its caller can hear of it.
      base::MutexLock lock(mutex_);
      submits_.push_back(submit);
      changed_.NotifyAll();
    }
    const std::string& text = submit.generation().prompt().text();
    const uint64_t id = submit.stream_id();
    if (text == "refuse") {
      *Event(id).mutable_error() = rpc::ToProto(rpc::FieldError("sampling.temperature", "is NaN"));
    } else {
      v1::Started& started = *Event(id).mutable_started();
      started.set_worker_id(id_);
      started.set_worker_incarnation(77);
      started.set_affinity(submit.affinity());
      started.set_model("m");
      open_.insert({id, submit.generation()});
      if (text == "flood") Flood(id, 0);
      if (text != "hold" && text != "flood") Answer(id, submit.generation());
    }
  }

  void Answer(uint64_t id, const v1::GenerationSpec& spec) {
    for (int i = 0; i < spec.stop().max_tokens(); ++i) {
      v1::Delta& delta = *Event(id).mutable_delta();
      delta.add_token_ids(i);
      delta.set_first_token_index(i);
      delta.set_text(absl::StrCat("t", i, " "));
    }
    Finish(id, v1::FINISH_REASON_LENGTH, spec.stop().max_tokens());
  }

  void Flood(uint64_t id, int index) {
    if (!open_.contains(id) || call_ == nullptr) return;
    v1::Delta& delta = *Event(id).mutable_delta();
    delta.add_token_ids(index);
    delta.set_first_token_index(index);
    delta.set_text(std::string(64 << 10, 'x'));
    Flush();
    server_.shard().After(absl::Milliseconds(1), [this, id, index] { Flood(id, index + 1); });
  }

  void Cancel(const v1::LinkCancel& cancel) {
    const bool found = open_.contains(cancel.stream_id());
    if (found) Finish(cancel.stream_id(), v1::FINISH_REASON_CANCELLED, 0);
    v1::StreamEvent& answer = Event(cancel.stream_id());
    answer.mutable_cancel_answer()->set_request_id(cancel.request_id());
    answer.mutable_cancel_answer()->set_found(found);
    answer.mutable_cancel_answer()->set_cancel_id(cancel.cancel_id());
    base::MutexLock lock(mutex_);
    ++cancels_;
    changed_.NotifyAll();
  }

  void Finish(uint64_t id, v1::FinishReason reason, int tokens) {
    open_.erase(id);
    v1::Finished& finished = *Event(id).mutable_finished();
    finished.add_choices()->set_reason(reason);
    finished.mutable_usage()->set_prompt_tokens(3);
    finished.mutable_usage()->set_cached_tokens(1);
    finished.mutable_usage()->set_completion_tokens(tokens);
  }

  v1::StreamEvent& Event(uint64_t stream) {
    v1::StreamEvent& event = *pending_.emplace_back().add_events();
    event.set_stream_id(stream);
    return event;
  }

  void Heartbeat() {
    if (call_ == nullptr) return;
    pending_.emplace_back();
    Flush();
    server_.shard().After(absl::Milliseconds(100), [this, call = std::weak_ptr<Call>(call_)] {
      if (call_ != nullptr && call.lock() == call_) Heartbeat();
    });
  }

  void Flush() {
    if (call_ == nullptr || call_->writing() || pending_.empty()) return;
    v1::AttachResponse frame = std::move(pending_.front());
    pending_.pop_front();
    frame.set_epoch(epoch_);
    frame.set_frame(++frames_);
    v1::LoadReport& load = *frame.mutable_load();
    load.set_state(v1::WORKER_STATE_READY);
    load.set_slots(16);
    load.set_submit_credit(64);
    call_->Write(frame);
  }

  const std::string id_;
  v1::WorkerService::AsyncService worker_;
  v1::SessionService::AsyncService session_;
  v1::InferenceService::AsyncService inference_;
  rpc::Server server_;
  // On the server's shard.
  std::shared_ptr<Call> call_;
  std::deque<v1::AttachResponse> pending_;
  std::map<uint64_t, v1::GenerationSpec> open_;
  std::map<uint64_t, v1::Submit> waiting_;
  std::map<uint64_t, std::string> prompts_;
  uint64_t epoch_ = 0, frames_ = 0;

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<v1::Submit> submits_ ABSL_GUARDED_BY(mutex_);
  int cancels_ ABSL_GUARDED_BY(mutex_) = 0;
  int embeds_ ABSL_GUARDED_BY(mutex_) = 0, refused_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace berth::gateway
