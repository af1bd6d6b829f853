#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "gateway/gateway.h"
#include "grpcpp/create_channel.h"
#include "proto/rpc/process.h"
#include "tests/gateway/grpc/fake_attach_worker.h"

namespace berth::gateway {

// A gateway in this process before two fake workers, "w0" and "w1".
class GatewayTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { rpc::InitProcess(); }

  void SetUp() override {
    GatewayOptions options{.http_port = 0, .grpc_port = 0, .admin_port = 0, .metrics_port = 0};
    options.relay.gateway_id = "g";
    Configure(options);
    for (const auto& worker : workers_) {
      absl::StrAppend(&options.discovery.workers, worker == workers_.front() ? "" : ",", worker->id(), "=", worker->address());
    }
    auto gateway = Gateway::Start(options, [this] { all_workers_.Notify(); });
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
    ASSERT_TRUE(all_workers_.WaitFor(absl::Seconds(20)));
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", gateway_->ports().grpc), grpc::InsecureChannelCredentials());
    inference_ = v1::InferenceService::NewStub(channel_);
  }

  virtual void Configure(GatewayOptions& options) {}

  static v1::StreamGenerateRequest Request(const std::string& text, int tokens = 4) {
    v1::StreamGenerateRequest request;
    request.mutable_generation()->set_model("m");
    request.mutable_generation()->mutable_prompt()->set_text(text);
    request.mutable_generation()->mutable_stop()->set_max_tokens(tokens);
    return request;
  }
  bool WaitForCancels(int count) {
    // Which of the two workers ran the request does not matter.
    for (const auto& worker : workers_) {
      if (!worker->submits().empty()) return worker->WaitForCancels(count);
    }
    return false;
  }

  std::vector<std::unique_ptr<FakeAttachWorker>> workers_ = [] {
    std::vector<std::unique_ptr<FakeAttachWorker>> workers;
    for (const char* id : {"w0", "w1"}) workers.push_back(std::make_unique<FakeAttachWorker>(id));
    return workers;
  }();
  base::Notification all_workers_;
  std::unique_ptr<Gateway> gateway_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
};

}  // namespace berth::gateway
