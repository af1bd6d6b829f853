#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/health.h"
#include "proto/rpc/reflection.h"
#include "proto/rpc/server.h"

namespace berth::rpc {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using v1::InferenceService;
using v1::WorkerService;

// A server of InferenceService and WorkerService whose handlers the test sets, and a client shard.
class CallTest : public testing::Test {
 protected:
  using StreamCall = ServerStreamCall<v1::StreamGenerateRequest, v1::StreamGenerateResponse>;
  using LinkCall = BidiCall<v1::AttachRequest, v1::AttachResponse>;
  using CancelCall = UnaryCall<v1::CancelRequest, v1::CancelResponse>;

  CallTest() : server_(ServerOptions{}), client_(std::make_unique<grpc::CompletionQueue>()) {
    server_.Register(inference_);
    server_.Register(worker_);
    server_.AddUnary(inference_, &InferenceService::AsyncService::RequestCancel,
                     [this](std::shared_ptr<CancelCall> call) { on_cancel_(call); });
    server_.AddServerStream(inference_, &InferenceService::AsyncService::RequestStreamGenerate,
                            [this](std::shared_ptr<StreamCall> call) { on_stream_(call); });
    server_.AddBidi(worker_, &WorkerService::AsyncService::RequestAttach,
                    [this](std::shared_ptr<LinkCall> call) { on_attach_(call); });
    health_.AddTo(server_);
  }
  void Start() {
    ASSERT_TRUE(server_.Start().ok());
    client_.Start();
    auto channel = MakeChannel("127.0.0.1:" + std::to_string(server_.port()), grpc::InsecureChannelCredentials());
    stub_ = std::make_unique<InferenceService::Stub>(channel);
    link_stub_ = std::make_unique<WorkerService::Stub>(channel);
    health_stub_ = std::make_unique<Health::Stub>(channel);
  }
  void TearDown() override {
    server_.Shutdown(absl::ZeroDuration());
    client_.Stop();
  }

  std::function<void(std::shared_ptr<CancelCall>)> on_cancel_;
  std::function<void(std::shared_ptr<StreamCall>)> on_stream_;
  std::function<void(std::shared_ptr<LinkCall>)> on_attach_;
  InferenceService::AsyncService inference_;
  WorkerService::AsyncService worker_;
  HealthService health_;
  Server server_;
  Shard client_;
  std::unique_ptr<InferenceService::Stub> stub_;
  std::unique_ptr<WorkerService::Stub> link_stub_;
  std::unique_ptr<Health::Stub> health_stub_;
};

TEST_F(CallTest, UnaryAnswersAndFailsWithDetails) {
  on_cancel_ = [](std::shared_ptr<CancelCall> call) {
    if (call->request().request_id().empty()) {
      call->Fail(FieldError("request_id", "is empty"));
    } else {
      v1::CancelResponse response;
      response.set_found(call->metadata("x-berth-tenant") == "t");
      call->Finish(response);
    }
  };
  Start();
  base::Notification good, bad;
  v1::CancelRequest request;
  client_.Post([&] {
    CallUnary(client_, *stub_, &InferenceService::Stub::PrepareAsyncCancel, request, {},
              [&](const absl::Status& status, v1::CancelResponse&) {
                EXPECT_THAT(FieldViolations(status), testing::ElementsAre(testing::Pair("request_id", "is empty")));
                bad.Notify();
              });
    request.set_request_id("r");
    CallUnary(client_, *stub_, &InferenceService::Stub::PrepareAsyncCancel, request, {.metadata = {{"x-berth-tenant", "t"}}},
              [&](const absl::Status& status, v1::CancelResponse& response) {
                EXPECT_TRUE(status.ok()) << status;
                EXPECT_TRUE(response.found());
                good.Notify();
              });
  });
  bad.Wait();
  good.Wait();
}

TEST_F(CallTest, ManyUnaryCallsAtOnce) {
  on_cancel_ = [](std::shared_ptr<CancelCall> call) { call->Finish({}); };
  Start();
  constexpr int kCalls = 500;
  int answered = 0;
  base::Notification done;
  client_.Post([&] {
    for (int i = 0; i < kCalls; ++i) {
      CallUnary(client_, *stub_, &InferenceService::Stub::PrepareAsyncCancel, v1::CancelRequest(), {},
                [&](const absl::Status& status, v1::CancelResponse&) {
                  EXPECT_TRUE(status.ok()) << status;
                  if (++answered == kCalls) done.Notify();
                });
    }
  });
  done.Wait();
}

void HoldBack(int socket, int on) { EXPECT_EQ(setsockopt(socket, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)), 0); }

int BytesHeldBack(int socket) {
  int bytes = -1;
  EXPECT_EQ(ioctl(socket, SIOCOUTQNSD, &bytes), 0);
  return bytes;
}

// gRPC leaves a write to the thread that just reads from the connection, which may be the client's.
void AwaitBytesHeldBack(int socket) {
  for (const absl::Time give_up = absl::Now() + absl::Seconds(10); BytesHeldBack(socket) == 0;) {
    ASSERT_LT(absl::Now(), give_up) << "nothing was written";
    std::this_thread::yield();
  }
}

TEST_F(CallTest, TheFirstMessageLeavesAtOnceAndWhatFollowsAtOnceTogether) {
  std::shared_ptr<StreamCall> call;  // the shard's, as `reached`
  int reached = 0;
  base::Notification handled;
  const auto written_or_arrived = [&] {
    switch (++reached) {
      case 2:  // the first was written, and has arrived
        HoldBack(call->socket(), 1);
        return call->Write({}, /*more=*/true);
      case 3:
        EXPECT_EQ(BytesHeldBack(call->socket()), 0);
        return call->Write({}, /*more=*/true);
      case 4:
        EXPECT_EQ(BytesHeldBack(call->socket()), 0);
        call->WriteAndFinish({});
        AwaitBytesHeldBack(call->socket());
        HoldBack(call->socket(), 0);
        call = nullptr;
        handled.Notify();
    }
  };
  on_stream_ = [&](std::shared_ptr<StreamCall> started) {
    call = std::move(started);
    call->OnWritten(written_or_arrived);
    call->Write({}, /*more=*/true);
  };
  Start();
  int messages = 0;
  base::Notification done;
  client_.Post([&] {
    CallServerStream(
        client_, *stub_, &InferenceService::Stub::PrepareAsyncStreamGenerate, v1::StreamGenerateRequest(), {},
        [&](v1::StreamGenerateResponse&) {
          if (++messages == 1) server_.shard().Post(written_or_arrived);
        },
        [&](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          done.Notify();
        });
  });
  done.Wait();
  handled.Wait();
  EXPECT_EQ(messages, 4);
}

TEST_F(CallTest, StreamDeliversInOrderThenTheStatus) {
  on_stream_ = [](std::shared_ptr<StreamCall> call) {
    call->OnWritten([call, seq = 1]() mutable {
      v1::StreamGenerateResponse response;
      response.set_seq(seq++);
      if (seq == 6) {
        call->Write(response);
        call->Finish(absl::AbortedError("enough"));  // follows the write
      } else {
        call->Write(response);
      }
    });
    call->Write({});
  };
  Start();
  std::vector<uint64_t> seen;
  base::Notification done;
  client_.Post([&] {
    CallServerStream(
        client_, *stub_, &InferenceService::Stub::PrepareAsyncStreamGenerate, v1::StreamGenerateRequest(), {},
        [&](v1::StreamGenerateResponse& response) { seen.push_back(response.seq()); },
        [&](const absl::Status& status) {
          EXPECT_EQ(status, absl::AbortedError("enough"));
          done.Notify();
        });
  });
  done.Wait();
  EXPECT_THAT(seen, testing::ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(CallTest, CancelAndDeadlineReachTheHandlerOnce) {
  base::Notification cancelled[2];
  int calls = 0;
  std::weak_ptr<StreamCall> first;
  on_stream_ = [&](std::shared_ptr<StreamCall> call) {
    const int index = calls++;
    if (index == 0) first = call;
    call->OnCancel([&, call, index] {
      EXPECT_TRUE(call->ended());
      call->Finish(absl::InternalError("has no effect"));
      cancelled[index].Notify();
    });
    call->Write({});
  };
  Start();
  base::Notification done[2];
  client_.Post([&] {
    auto handle = std::make_shared<std::shared_ptr<ClientCall>>();
    *handle = CallServerStream(
        client_, *stub_, &InferenceService::Stub::PrepareAsyncStreamGenerate, v1::StreamGenerateRequest(), {},
        [handle](v1::StreamGenerateResponse&) { (*handle)->Cancel(); },
        [&](const absl::Status& status) {
          EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
          done[0].Notify();
        });
  });
  done[0].Wait();
  cancelled[0].Wait();
  client_.Post([&] {
    CallServerStream(
        client_, *stub_, &InferenceService::Stub::PrepareAsyncStreamGenerate, v1::StreamGenerateRequest(),
        {.timeout = absl::Milliseconds(30)}, [](v1::StreamGenerateResponse&) {},
        [&](const absl::Status& status) {
          EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
          done[1].Notify();
        });
  });
  done[1].Wait();
  cancelled[1].Wait();
  server_.Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(first.expired()) << "a call that is over must be freed";
}

TEST_F(CallTest, BidiEchoesUntilTheClientHalfCloses) {
  on_attach_ = [](std::shared_ptr<LinkCall> call) {
    // A request may be there before the write of the last response is known to be done.
    const auto answers = std::make_shared<std::deque<v1::AttachResponse>>();
    const auto go_on = [call, answers] {
      if (call->writing() || answers->empty()) return;
      call->Write(answers->front());
      answers->pop_front();
    };
    call->OnRead([answers, go_on](v1::AttachRequest& request) {
      answers->emplace_back().set_frame(request.acknowledged_frame() * 10);
      go_on();
    });
    call->OnWritten(go_on);
    call->OnReadsDone([call] { call->Finish(absl::OkStatus()); });
  };
  Start();
  std::vector<uint64_t> seen;
  base::Notification done;
  auto call = std::make_shared<ClientBidiCall<v1::AttachRequest, v1::AttachResponse>>(client_, CallOptions{});
  uint64_t sent = 0;
  // A response may be there before the write of its request is known to be done.
  const auto go_on = [&] {
    if (!call->writable() || sent > seen.size()) return;
    if (sent == 3) return call->WritesDone();
    v1::AttachRequest request;
    request.set_acknowledged_frame(++sent);
    call->Write(request);
  };
  client_.Post([&] {
    call->OnWritable(go_on);
    call->OnRead([&](v1::AttachResponse& response) {
      seen.push_back(response.frame());
      go_on();
    });
    call->OnDone([&](const absl::Status& status) {
      EXPECT_TRUE(status.ok()) << status;
      done.Notify();
    });
    StartBidi(*call, *link_stub_, &WorkerService::Stub::PrepareAsyncAttach);
  });
  done.Wait();
  EXPECT_THAT(seen, testing::ElementsAre(10, 20, 30));
}

TEST_F(CallTest, ShutdownCancelsOpenLinks) {
  base::Notification attached, gone, done;
  on_attach_ = [&](std::shared_ptr<LinkCall> call) {
    call->OnCancel([&] { gone.Notify(); });
    attached.Notify();
  };
  Start();
  auto call = std::make_shared<ClientBidiCall<v1::AttachRequest, v1::AttachResponse>>(client_, CallOptions{});
  client_.Post([&] {
    call->OnDone([&](const absl::Status& status) {
      EXPECT_FALSE(status.ok());
      done.Notify();
    });
    StartBidi(*call, *link_stub_, &WorkerService::Stub::PrepareAsyncAttach);
  });
  attached.Wait();
  server_.Shutdown(absl::ZeroDuration());
  gone.Wait();
  done.Wait();
}

TEST_F(CallTest, UnreachablePeerIsUnavailable) {
  Start();
  server_.Shutdown(absl::ZeroDuration());
  base::Notification done;
  client_.Post([&] {
    CallUnary(client_, *stub_, &InferenceService::Stub::PrepareAsyncCancel, v1::CancelRequest(), {},
              [&](const absl::Status& status, v1::CancelResponse&) {
                EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
                done.Notify();
              });
  });
  done.Wait();
}

TEST_F(CallTest, HealthCheckAndWatch) {
  Start();
  grpc::ClientContext watch_context;
  HealthCheckRequest readiness;
  readiness.set_service("readiness");
  auto watch = health_stub_->Watch(&watch_context, readiness);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  health_.SetReady(true);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  for (const auto& [service, want] :
       {std::pair("", HealthCheckResponse::SERVING), std::pair("liveness", HealthCheckResponse::SERVING)}) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    ASSERT_TRUE(health_stub_->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), want) << service;
  }
  grpc::ClientContext context;
  HealthCheckRequest unknown;
  unknown.set_service("nobody");
  EXPECT_EQ(health_stub_->Check(&context, unknown, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  health_.EndWatches();
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Server, AnOccupiedPortIsOneClearError) {
  Server first(ServerOptions{});
  ASSERT_TRUE(first.Start().ok());
  Server second(ServerOptions{.port = first.port()});
  const absl::Status status = second.Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::to_string(first.port())));
}

TEST(Server, AnotherServersShardRunsItsCallsAndReflectionTellsWhatThereIs) {
  Server first(ServerOptions{});
  ReflectionService reflection({"a.Service"});
  Server second(ServerOptions{.shared_shard = &first.shard()});
  reflection.AddTo(second);
  ASSERT_TRUE(first.Start().ok());
  ASSERT_TRUE(second.Start().ok());
  const auto stub = grpc::reflection::v1alpha::ServerReflection::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", second.port()), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->ServerReflectionInfo(&context);
  grpc::reflection::v1alpha::ServerReflectionRequest services, file, nobody;
  services.set_list_services("");
  file.set_file_containing_symbol("grpc.health.v1.Health");
  nobody.set_file_by_filename("nobody.proto");
  for (const auto& request : {services, file, nobody}) stream->Write(request);
  stream->WritesDone();
  grpc::reflection::v1alpha::ServerReflectionResponse response;
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_EQ(response.list_services_response().service_size(), 1);
  EXPECT_EQ(response.list_services_response().service(0).name(), "a.Service");
  ASSERT_TRUE(stream->Read(&response));
  google::protobuf::FileDescriptorProto described;
  ASSERT_TRUE(described.ParseFromString(response.file_descriptor_response().file_descriptor_proto(0)));
  EXPECT_EQ(described.service(0).name(), "Health");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
  second.Shutdown(absl::ZeroDuration());
  first.Shutdown(absl::ZeroDuration());
}

TEST(Server, MissingPemFilesAreNamed) {
  Server server(ServerOptions{.tls = {.cert_file = "/nonexistent/cert.pem", .key_file = "/nonexistent/key.pem"}});
  EXPECT_THAT(std::string(server.Start().message()), testing::HasSubstr("/nonexistent/cert.pem"));
}

}  // namespace
}  // namespace berth::rpc
