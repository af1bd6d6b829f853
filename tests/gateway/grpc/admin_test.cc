#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "spdlog/spdlog.h"
#include "tests/gateway/grpc/gateway_fixture.h"

namespace berth::gateway {
namespace {

class AdminTest : public GatewayTest {
 protected:
  std::unique_ptr<v1::AdminService::Stub> Admin() {
    return v1::AdminService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", gateway_->ports().admin), grpc::InsecureChannelCredentials()));
  }
  void Configure(GatewayOptions& options) override { options.drain_accept = absl::ZeroDuration(); }
  absl::Status Generate() {
    grpc::ClientContext context;
    v1::GenerateRequest request;
    *request.mutable_generation() = Request("hi").generation();
    v1::GenerateResponse response;
    return rpc::FromGrpc(inference_->Generate(&context, request, &response));
  }
  bool Ready() {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service("readiness");
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response).ok());
    return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }
};

TEST_F(AdminTest, ListsTheWorkers) {
  grpc::ClientContext context;
  v1::ListWorkersResponse response;
  ASSERT_TRUE(Admin()->ListWorkers(&context, {}, &response).ok());
  ASSERT_EQ(response.workers_size(), 2);
  EXPECT_EQ(response.workers(0).worker_id(), "w0");
  EXPECT_EQ(response.workers(0).address(), workers_[0]->address());
  EXPECT_TRUE(response.workers(0).connected());
  EXPECT_EQ(response.workers(1).load().submit_credit(), 64);
}

TEST_F(AdminTest, ADrainIsReportedUntilNothingRunsAndCanBeTakenBack) {
  grpc::ClientContext stream_context, drain_context, undrain_context;
  const auto running = inference_->StreamGenerate(&stream_context, Request("hold"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(running->Read(&message));
  const auto drain = Admin()->Drain(&drain_context, {});
  v1::DrainResponse report;
  ASSERT_TRUE(drain->Read(&report));
  EXPECT_EQ(report.state(), v1::WORKER_STATE_DRAINING);
  EXPECT_EQ(report.running(), 1);
  EXPECT_FALSE(Ready());
  // The next report comes when the time for load balancers to notice, none here, is over.
  ASSERT_TRUE(drain->Read(&report));
  EXPECT_EQ(rpc::Reason(Generate()), "DRAINING");
  stream_context.TryCancel();
  while (drain->Read(&report)) continue;
  EXPECT_TRUE(drain->Finish().ok());
  EXPECT_EQ(report.running(), 0);

  v1::UndrainResponse response;
  ASSERT_TRUE(Admin()->Undrain(&undrain_context, {}, &response).ok());
  EXPECT_EQ(response.state(), v1::WORKER_STATE_READY);
  EXPECT_TRUE(Generate().ok());
  EXPECT_TRUE(Ready());
}

TEST_F(AdminTest, AGatewayThatStopsIsNotReadyAgain) {
  grpc::ClientContext stream_context, watch_context, drain_context, undrain_context;
  const auto running = inference_->StreamGenerate(&stream_context, Request("hold"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(running->Read(&message));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("readiness");
  const auto watch = grpc::health::v1::Health::NewStub(channel_)->Watch(&watch_context, request);
  grpc::health::v1::HealthCheckResponse health;
  ASSERT_TRUE(watch->Read(&health));
  const auto admin = Admin();
  std::thread stop([this] { gateway_->Stop(absl::Seconds(20)); });
  while (health.status() == grpc::health::v1::HealthCheckResponse::SERVING && watch->Read(&health)) continue;
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  // As when workers come and go, this looks whether the gateway is ready.
  const auto drain = admin->Drain(&drain_context, {});
  v1::DrainResponse report;
  EXPECT_TRUE(drain->Read(&report));
  v1::UndrainResponse response;
  EXPECT_TRUE(admin->Undrain(&undrain_context, {}, &response).ok());
  EXPECT_FALSE(Ready());
  drain_context.TryCancel();
  watch_context.TryCancel();
  stream_context.TryCancel();
  stop.join();
}

TEST_F(AdminTest, SetsTheLogLevelAndNamesAnUnknownOne) {
  const spdlog::level::level_enum before = spdlog::get_level();
  v1::SetLogLevelRequest request;
  v1::SetLogLevelResponse response;
  request.set_level("error");
  grpc::ClientContext good, bad;
  EXPECT_TRUE(Admin()->SetLogLevel(&good, request, &response).ok());
  EXPECT_EQ(spdlog::get_level(), spdlog::level::err);
  request.set_level("loud");
  EXPECT_EQ(Admin()->SetLogLevel(&bad, request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  spdlog::set_level(before);
}

TEST_F(AdminTest, HealthIsServedOnTheDataPort) {
  const auto health = grpc::health::v1::Health::NewStub(channel_);
  for (const char* service : {"", "liveness", "readiness"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(health->Check(&context, request, &response).ok()) << service;
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING) << service;
  }
}

}  // namespace
}  // namespace berth::gateway
