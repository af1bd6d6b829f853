#include "grpc/health/v1/health.grpc.pb.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "tests/gateway/grpc/gateway_fixture.h"

namespace berth::gateway {
namespace {

class AdminTest : public GatewayTest {
 protected:
  std::unique_ptr<v1::AdminService::Stub> Admin() {
    return v1::AdminService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", gateway_->ports().admin), grpc::InsecureChannelCredentials()));
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

TEST_F(AdminTest, WhatAGatewayDoesNotOfferIsUnimplemented) {
  grpc::ClientContext context;
  v1::UndrainResponse response;
  EXPECT_EQ(Admin()->Undrain(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
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
