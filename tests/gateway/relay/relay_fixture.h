#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gateway/relay/relay.h"
#include "prometheus/text_serializer.h"
#include "tests/gateway/relay/fake_time.h"
#include "tests/gateway/relay/fake_worker.h"

namespace berth::relay {

// A caller that reads at once, unless told to be slow.
class FakeCaller : public StreamSink {
 public:
  explicit FakeCaller(Relay& relay) : relay_(relay) {}
  ~FakeCaller() override { Leave(); }

  uint64_t Open(GenerationRequest request) {
    id_ = relay_.Open(std::move(request), *this);
    OnReadable();
    return id_;
  }
  void OnReadable() override {
    while (reading_) {
      std::optional<Outbox::Item> item = relay_.Read(id_);
      if (!item.has_value()) return;
      if (item->end.has_value()) {
        end_ = *item->end;
        return;
      }
      messages_.push_back(*std::move(item->message));
    }
  }
  void OnGivenUp(const absl::Status& status) override { end_ = status; }
  void SetReading(bool reading) {
    reading_ = reading;
    OnReadable();
  }
  void Leave() { relay_.Abandon(id_); }

  uint64_t id() const { return id_; }
  bool ended() const { return end_.has_value(); }
  const absl::Status& status() const { return *end_; }
  const std::vector<v1::StreamGenerateResponse>& messages() const { return messages_; }
  std::string text() const {
    std::string text;
    for (const auto& message : messages_) text += message.delta().text();
    return text;
  }

  // Null: it was never resumed.
  const v1::Resumed* resumed() const {
    for (const auto& message : messages_) {
      if (message.has_resumed()) return &message.resumed();
    }
    return nullptr;
  }

 private:
  Relay& relay_;
  uint64_t id_ = 0;
  bool reading_ = true;
  std::optional<absl::Status> end_;
  std::vector<v1::StreamGenerateResponse> messages_;
};

class RelayTest : public ::testing::Test {
 protected:
  // Workers "w0", "w1", …
  void Make(int workers, RelayOptions options = {}) {
    options.gateway_id = "g";
    std::vector<routing::WorkerAddress> addresses;
    for (int i = 0; i < workers; ++i) addresses.push_back({"w" + std::to_string(i), "host:1"});
    relay_ = std::make_unique<Relay>(options, addresses, time_, time_, workers_.Factory(), lookup_, metrics_);
    relay_->Start([] {});
  }
  void MakeAttached(int workers, RelayOptions options = {}) {
    Make(workers, options);
    for (int i = 0; i < workers; ++i) {
      workers_.Attach("w" + std::to_string(i));
      workers_.TakeWritten("w" + std::to_string(i));
    }
  }

  static GenerationRequest Request(const std::string& session = "", const std::string& request_id = "") {
    GenerationRequest request{.tenant = "t"};
    request.spec.set_model("m");
    request.spec.set_session_id(session);
    request.spec.set_request_id(request_id);
    request.spec.mutable_prompt()->set_text("hello");
    return request;
  }
  // The same, of a session whose history stays at its worker.
  static GenerationRequest InteractiveTurn(const std::string& session) {
    GenerationRequest turn = Request(session);
    turn.spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
    return turn;
  }

  std::unique_ptr<FakeCaller> NewCaller() { return std::make_unique<FakeCaller>(*relay_); }
  // Opens a stream and returns what its worker got; the worker is found by looking.
  struct Running {
    std::unique_ptr<FakeCaller> caller;
    std::string worker;
    v1::Submit submit;
  };
  Running Run(GenerationRequest request) {
    Running running{.caller = NewCaller()};
    running.caller->Open(std::move(request));
    FindSubmit(running);
    return running;
  }
  void FindSubmit(Running& running) {
    running.worker.clear();
    for (int i = 0; i < relay_->view().size(); ++i) {
      const std::string id = "w" + std::to_string(i);
      for (v1::Submit& submit : workers_.TakeSubmits(id)) {
        running.worker = id;
        running.submit = submit;
      }
    }
  }
  static std::string Other(const std::string& worker) { return worker == "w0" ? "w1" : "w0"; }
  // The worker's process is gone: its stream breaks and its port refuses.
  void Kill(const std::string& worker) {
    workers_.Break(worker);
    workers_.Break(worker);
  }
  std::string Metrics() { return prometheus::TextSerializer().Serialize(registry_.Collect()); }
  int OpenStreams() {
    int open = 0;
    for (int i = 0; i < relay_->view().size(); ++i) open += relay_->view().worker(i).open_streams;
    return open;
  }

  // Answers of the workers that are asked for a session, in the order of the questions.
  struct Lookup {
    std::string worker;
    v1::HasSessionRequest question;
    absl::AnyInvocable<void(const absl::Status&, const v1::HasSessionResponse&)> answer;

    void Found(uint64_t version, absl::Duration idle) {
      v1::HasSessionResponse response;
      response.set_found(true);
      response.set_version(version);
      response.mutable_idle()->set_seconds(absl::ToInt64Seconds(idle));
      answer(absl::OkStatus(), response);
    }
    void Unknown() { answer(absl::OkStatus(), {}); }
  };

  FakeTime time_;
  FakeWorkers workers_;
  std::deque<Lookup> lookups_;
  SessionLookup lookup_ = [this](int worker, const v1::HasSessionRequest& question, auto answer) {
    lookups_.push_back({relay_->view().worker(worker).address.id, question, std::move(answer)});
  };
  prometheus::Registry registry_;
  GatewayMetrics metrics_{registry_};
  std::unique_ptr<Relay> relay_;
};

}  // namespace berth::relay
