#include "proto/berth/v1/model.grpc.pb.h"
#include "tests/gateway/grpc/gateway_fixture.h"

namespace berth::gateway {
namespace {

using ::testing::ElementsAre;

TEST_F(GatewayTest, StreamsWithUnbrokenNumbersAndPlacement) {
  grpc::ClientContext context;
  auto reader = inference_->StreamGenerate(&context, Request("hi"));
  v1::StreamGenerateResponse message;
  std::string text;
  uint64_t expected = 0;
  bool finished = false;
  while (reader->Read(&message)) {
    EXPECT_EQ(message.seq(), expected++);
    EXPECT_EQ(message.has_started(), message.seq() == 0);
    EXPECT_FALSE(finished);
    text += message.delta().text();
    EXPECT_TRUE(message.delta().token_ids().empty());
    finished = message.has_finished();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "t0 t1 t2 t3 ");
  EXPECT_TRUE(finished);
  EXPECT_EQ(message.finished().usage().completion_tokens(), 4);
  const auto& metadata = context.GetServerInitialMetadata();
  EXPECT_EQ(metadata.count("x-worker-id"), 1u);
  EXPECT_EQ(metadata.find("x-worker-incarnation")->second, "77");
  EXPECT_EQ(metadata.find("x-affinity")->second, "new");
}

TEST_F(GatewayTest, GenerateGivesTheWholeAnswer) {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  *request.mutable_generation() = Request("hi").generation();
  request.mutable_generation()->mutable_output()->set_token_ids(true);
  v1::GenerateResponse response;
  ASSERT_TRUE(inference_->Generate(&context, request, &response).ok());
  EXPECT_EQ(response.choices(0).text(), "t0 t1 t2 t3 ");
  EXPECT_THAT(response.choices(0).token_ids(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(response.choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_FALSE(response.request_id().empty());
  EXPECT_EQ(response.usage().prompt_tokens(), 3);
}

TEST_F(GatewayTest, ErrorsKeepTheirDetailsOverBothHops) {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  *request.mutable_generation() = Request("refuse").generation();
  v1::GenerateResponse response;
  const absl::Status status = rpc::FromGrpc(inference_->Generate(&context, request, &response));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rpc::FieldViolations(status).front().first, "sampling.temperature");
}

TEST_F(GatewayTest, ALargePromptArrivesWhole) {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  *request.mutable_generation() = Request(std::string(3 << 20, 'p')).generation();
  v1::GenerateResponse response;
  ASSERT_TRUE(inference_->Generate(&context, request, &response).ok());
  size_t bytes = 0;
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) bytes += submit.prompt_follows();
  }
  EXPECT_EQ(bytes, 1u) << "the prompt went in chunks";
}

TEST_F(GatewayTest, TheCallersDeadlineEndsTheStreamAtTheWorkerToo) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  auto reader = inference_->StreamGenerate(&context, Request("hold"));
  v1::StreamGenerateResponse message;
  while (reader->Read(&message)) continue;
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(WaitForCancels(1));
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) {
      EXPECT_EQ(submit.timeout().seconds(), 0);
      EXPECT_GT(submit.timeout().nanos(), 0);
    }
  }
}

TEST_F(GatewayTest, ACallerWhoGoesAwayCancelsUpstream) {
  grpc::ClientContext context;
  auto reader = inference_->StreamGenerate(&context, Request("hold"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitForCancels(1));
}

TEST_F(GatewayTest, CancelByIdEndsTheStreamAsTheWorkerSays) {
  grpc::ClientContext context;
  auto reader = inference_->StreamGenerate(&context, Request("hold"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  v1::CancelRequest cancel;
  cancel.set_request_id(message.request_id());
  v1::CancelResponse answer;
  {
    grpc::ClientContext other;
    ASSERT_TRUE(inference_->Cancel(&other, cancel, &answer).ok());
  }
  EXPECT_TRUE(answer.found());
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.finished().choices(0).reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
  grpc::ClientContext again;
  ASSERT_TRUE(inference_->Cancel(&again, cancel, &answer).ok());
  EXPECT_FALSE(answer.found()) << "the workers know of no such request";
}

TEST_F(GatewayTest, ACancelOfWhatCanBeNoNameIsRefused) {
  for (const char* field : {"request_id", "session_id"}) {
    v1::CancelRequest cancel;
    (field == std::string("request_id") ? *cancel.mutable_request_id() : *cancel.mutable_session_id()) = std::string(257, 'x');
    v1::CancelResponse answer;
    grpc::ClientContext context;
    const absl::Status status = rpc::FromGrpc(inference_->Cancel(&context, cancel, &answer));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(rpc::FieldViolations(status).front().first, field);
  }
}

TEST_F(GatewayTest, ASlowCallerIsEndedAndOthersGoOn) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
  const auto slow_channel = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", gateway_->ports().grpc),
                                                      grpc::InsecureChannelCredentials(), arguments);
  grpc::ClientContext context;
  auto reader = v1::InferenceService::NewStub(slow_channel)->StreamGenerate(&context, Request("flood"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_TRUE(WaitForCancels(1)) << "the worker was not told";
  while (reader->Read(&message)) continue;
  const absl::Status status = rpc::FromGrpc(reader->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(rpc::Reason(status), "SLOW_CLIENT");
  grpc::ClientContext other;
  v1::GenerateRequest request;
  *request.mutable_generation() = Request("hi").generation();
  v1::GenerateResponse response;
  EXPECT_TRUE(inference_->Generate(&other, request, &response).ok());
}

TEST_F(GatewayTest, SessionsStickAndTheirRpcsGoToTheOwner) {
  for (const char* session : {"alpha", "beta", "gamma", "delta"}) {
    std::string owner;
    for (int turn = 0; turn < 3; ++turn) {
      grpc::ClientContext context;
      v1::GenerateRequest request;
      *request.mutable_generation() = Request("hi").generation();
      request.mutable_generation()->set_session_id(session);
      v1::GenerateResponse response;
      ASSERT_TRUE(inference_->Generate(&context, request, &response).ok());
      if (turn > 0) {
        EXPECT_EQ(response.started().worker_id(), owner);
      }
      owner = response.started().worker_id();
    }
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_session_id(session);
    v1::GetSessionResponse response;
    ASSERT_TRUE(v1::SessionService::NewStub(channel_)->GetSession(&context, request, &response).ok());
    EXPECT_EQ(response.worker_id(), owner);
    EXPECT_EQ(response.session_id(), absl::StrCat("default/", session)) << "forwarded in the tenant's name";
  }
}

TEST_F(GatewayTest, ForwardedErrorsKeepTheirReason) {
  grpc::ClientContext context;
  v1::CloseSessionRequest request;
  request.set_session_id("s");
  v1::CloseSessionResponse response;
  const absl::Status status = rpc::FromGrpc(v1::SessionService::NewStub(channel_)->CloseSession(&context, request, &response));
  EXPECT_EQ(rpc::Reason(status), "SESSION_BUSY");
}

TEST_F(GatewayTest, TokenizesAtAWorker) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.mutable_prompt()->set_text("ab");
  v1::TokenizeResponse response;
  ASSERT_TRUE(inference_->Tokenize(&context, request, &response).ok());
  EXPECT_THAT(response.token_ids(), ElementsAre('a', 'b'));
}

TEST_F(GatewayTest, ListsModelsAndNamesTheUnknown) {
  const auto models = v1::ModelService::NewStub(channel_);
  {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    ASSERT_TRUE(models->ListModels(&context, {}, &response).ok());
    ASSERT_EQ(response.models_size(), 1);
    EXPECT_EQ(response.models(0).name(), "m");
  }
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_name("gpt-9");
  v1::GetModelResponse response;
  EXPECT_EQ(models->GetModel(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(GatewayTest, StoppingEndsARunningStreamWithUnavailable) {
  grpc::ClientContext context;
  auto reader = inference_->StreamGenerate(&context, Request("hold"));
  v1::StreamGenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  gateway_->Stop(absl::Milliseconds(50));
  EXPECT_FALSE(reader->Read(&message));
  const absl::Status status = rpc::FromGrpc(reader->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(rpc::Reason(status), "DRAINING");
}

TEST_F(GatewayTest, MetadataStandsInForEmptyFields) {
  grpc::ClientContext context;
  context.AddMetadata("x-session-id", "from-metadata");
  context.AddMetadata("x-request-id", "r-1");
  context.AddMetadata("traceparent", "00-abc-def-01");
  v1::GenerateRequest request;
  *request.mutable_generation() = Request("hi").generation();
  v1::GenerateResponse response;
  ASSERT_TRUE(inference_->Generate(&context, request, &response).ok());
  EXPECT_EQ(response.request_id(), "r-1");
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) {
      EXPECT_EQ(submit.generation().session_id(), "from-metadata");
      EXPECT_EQ(submit.traceparent(), "00-abc-def-01");
      EXPECT_EQ(submit.tenant(), "default");
    }
  }
}

}  // namespace
}  // namespace berth::gateway
