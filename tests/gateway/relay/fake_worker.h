#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gateway/relay/link_transport.h"
#include "proto/rpc/status.h"

namespace berth::relay {

// The workers' ends of the links, played by the test.
class FakeWorkers {
 public:
  class Transport : public LinkTransport {
   public:
    Transport(FakeWorkers& workers, std::string id, Observer& observer)
        : workers_(workers), id_(std::move(id)), observer_(observer) {
      workers_.open_[id_] = this;
      ++workers_.attempts_[id_];
    }
    ~Transport() override {
      if (workers_.open_[id_] == this) workers_.open_[id_] = nullptr;
    }
    void Write(const v1::AttachRequest& frame) override {
      EXPECT_FALSE(std::exchange(writing_, true)) << "two writes at once";
      if (frame.has_hello()) hello_ = frame.hello();
      workers_.written_[id_].push_back(frame);
    }

   private:
    friend class FakeWorkers;
    FakeWorkers& workers_;
    const std::string id_;
    Observer& observer_;
    v1::GatewayHello hello_;
    bool writing_ = false;
    uint64_t frame_ = 0;
  };

  LinkFactory Factory() {
    return [this](const routing::WorkerAddress& worker, LinkTransport::Observer& observer) {
      return std::make_unique<Transport>(*this, worker.id, observer);
    };
  }

  bool IsOpen(const std::string& id) { return open_[id] != nullptr; }
  int attempts(const std::string& id) { return attempts_[id]; }
  const v1::GatewayHello& hello(const std::string& id) { return open_.at(id)->hello_; }

  // Lets the gateway write; its hello first.
  void Writable(const std::string& id) {
    Transport& transport = *open_.at(id);
    transport.writing_ = false;
    transport.observer_.OnWritable();
  }

  v1::AttachResponse Frame(const std::string& id) {
    v1::AttachResponse frame;
    frame.set_epoch(open_.at(id)->hello_.epoch());
    frame.set_frame(++open_.at(id)->frame_);
    return frame;
  }

  static v1::LoadReport Load(int credit = 32) {
    v1::LoadReport load;
    load.set_state(v1::WORKER_STATE_READY);
    load.set_slots(16);
    load.set_submit_credit(credit);
    return load;
  }

  // Opens the stream and answers the hello as the incarnation that started at `start`.
  void Attach(const std::string& id, int64_t start = 1, uint64_t fingerprint = 7, int credit = 32,
              const std::string& journal = "") {
    Writable(id);
    v1::AttachResponse frame = Frame(id);
    v1::WorkerHello& hello = *frame.mutable_hello();
    hello.set_worker_id(id);
    hello.set_epoch(frame.epoch());
    hello.mutable_incarnation()->set_start_time_micros(start);
    hello.set_journal_domain(journal);
    v1::Model& model = *hello.add_models();
    model.set_name("m");
    model.set_fingerprint(fingerprint);
    *frame.mutable_load() = Load(credit);
    Send(id, frame);
    if (IsOpen(id)) Writable(id);
  }

  void Send(const std::string& id, v1::AttachResponse frame) { open_.at(id)->observer_.OnFrame(frame); }
  // One frame with one event.
  void SendEvent(const std::string& id, v1::StreamEvent event) {
    v1::AttachResponse frame = Frame(id);
    *frame.add_events() = std::move(event);
    Send(id, frame);
  }
  void SendLoad(const std::string& id, const v1::LoadReport& load) {
    v1::AttachResponse frame = Frame(id);
    *frame.mutable_load() = load;
    Send(id, frame);
  }
  void SendStarted(const std::string& id, uint64_t stream, uint64_t fingerprint = 7) {
    v1::StreamEvent event;
    event.set_stream_id(stream);
    event.mutable_started()->set_worker_id(id);
    event.mutable_started()->set_worker_incarnation(99);
    event.mutable_started()->set_model_fingerprint(fingerprint);
    SendEvent(id, event);
  }
  void SendToken(const std::string& id, uint64_t stream, int index, const std::string& text, int choice = 0) {
    v1::StreamEvent event;
    event.set_stream_id(stream);
    v1::Delta& delta = *event.mutable_delta();
    delta.set_choice_index(choice);
    delta.add_token_ids(1000 + index);
    delta.set_first_token_index(index);
    delta.set_text(text);
    SendEvent(id, event);
  }
  void SendFinished(const std::string& id, uint64_t stream, v1::FinishReason reason = v1::FINISH_REASON_LENGTH) {
    v1::StreamEvent event;
    event.set_stream_id(stream);
    event.mutable_finished()->add_choices()->set_reason(reason);
    SendEvent(id, event);
  }
  void SendError(const std::string& id, uint64_t stream, const absl::Status& status) {
    v1::StreamEvent event;
    event.set_stream_id(stream);
    *event.mutable_error() = rpc::ToProto(status);
    SendEvent(id, event);
  }
  // The stream ends on the worker's side.
  void Break(const std::string& id, absl::Status status = absl::UnavailableError("connection reset")) {
    open_.at(id)->observer_.OnClosed(status);
  }

  // All that the gateway wrote to the worker since the last call.
  std::vector<v1::AttachRequest> TakeWritten(const std::string& id) {
    if (open_[id] != nullptr && open_[id]->writing_) Writable(id);
    return std::exchange(written_[id], {});
  }
  std::vector<v1::Submit> TakeSubmits(const std::string& id) {
    std::vector<v1::Submit> submits;
    for (v1::AttachRequest& frame : TakeWritten(id)) {
      for (v1::Submit& submit : *frame.mutable_submits()) submits.push_back(submit);
    }
    return submits;
  }

 private:
  std::map<std::string, Transport*> open_;
  std::map<std::string, int> attempts_;
  std::map<std::string, std::vector<v1::AttachRequest>> written_;
};

}  // namespace berth::relay
