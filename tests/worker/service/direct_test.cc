#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/test_worker.h"
#include "tests/worker/service/direct_fixture.h"

namespace berth::service {
namespace {

using berth::testing::ChatSpec;
using berth::testing::Outcome;
using berth::testing::TestWorker;

TEST_F(DirectTest, AStreamHasAllParts) {
  const Outcome outcome = worker_.Stream(ChatSpec("r", "hello", 50));
  ASSERT_TRUE(outcome.error.ok()) << outcome.error;
  EXPECT_EQ(outcome.started.worker_id(), "worker-0");
  EXPECT_EQ(outcome.started.prompt_tokens(), 1 + 5 + 5 + 1 + 1 + 10);  // <msg>user\nhello<eos><msg>assistant\n
  EXPECT_EQ(outcome.tokens.at(0).size(), 50);
  EXPECT_FALSE(outcome.text.at(0).empty());
  ASSERT_EQ(outcome.finished.choices_size(), 1);
  EXPECT_EQ(outcome.finished.choices(0).reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(outcome.finished.usage().completion_tokens(), 50);
  EXPECT_EQ(outcome.finished.usage().prompt_tokens(), outcome.started.prompt_tokens());
}

TEST_F(DirectTest, AConstrainedOutputMatchesAndEndsByItself) {
  v1::GenerationSpec spec = ChatSpec("r", "hello", 200);
  spec.mutable_sampling()->set_choice_count(3);
  spec.mutable_constraint()->set_regex("(yes|no|maybe)(, [a-z]{3} [0-9]+!){2}");
  const Outcome whole = worker_.Stream(spec);
  ASSERT_TRUE(whole.error.ok()) << whole.error;
  for (int choice = 0; choice < 3; ++choice) {
    EXPECT_THAT(whole.text.at(choice),
                ::testing::MatchesRegex("(yes|no|maybe)(, [a-z][a-z][a-z] [0-9]+!)(, [a-z][a-z][a-z] [0-9]+!)"));
    EXPECT_EQ(whole.finished.choices(choice).reason(), v1::FINISH_REASON_STOP_TOKEN);
  }
  // Cut and resumed, it goes on from where the grammar stood.
  const std::vector<int32_t>& tokens = whole.tokens.at(0);
  spec.mutable_sampling()->set_choice_count(1);
  spec.set_request_id("resumed");
  spec.mutable_resume()->set_model_fingerprint(whole.started.model_fingerprint());
  spec.mutable_resume()->set_next_seq(9);
  v1::ResumeFrom::Choice& given = *spec.mutable_resume()->add_choices();
  given.mutable_token_ids()->Add(tokens.begin(), tokens.begin() + 8);
  const Outcome rest = worker_.Stream(spec);
  ASSERT_TRUE(rest.error.ok()) << rest.error;
  EXPECT_EQ(rest.tokens.at(0), std::vector<int32_t>(tokens.begin() + 8, tokens.end()));
}

TEST_F(DirectTest, AConstraintThatCannotBeReadIsNamed) {
  v1::GenerationSpec spec = ChatSpec("r", "hello", 20);
  spec.mutable_constraint()->set_json_schema(R"({"type": "array", "uniqueItems": true})");
  const Outcome outcome = worker_.Stream(spec);
  EXPECT_EQ(outcome.error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(outcome.error.message()), ::testing::HasSubstr("#/uniqueItems: is not supported"));
}

TEST_F(DirectTest, TheSameSeedGivesTheSameTextAndOthersDoNot) {
  const Outcome a = worker_.Stream(ChatSpec("a", "hello", 30, 5));
  const Outcome b = worker_.Stream(ChatSpec("b", "hello", 30, 5));
  const Outcome c = worker_.Stream(ChatSpec("c", "hello", 30, 6));
  EXPECT_EQ(a.text, b.text);
  EXPECT_NE(a.text, c.text);
}

TEST_F(DirectTest, GenerateIsTheStreamAtOnce) {
  v1::GenerationSpec spec = ChatSpec("s", "hello", 40);
  spec.mutable_sampling()->set_choice_count(3);
  spec.mutable_output()->set_top_logprobs(2);
  const Outcome stream = worker_.Stream(spec);
  v1::GenerateRequest request;
  *request.mutable_generation() = spec;
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(worker_.inference->Generate(&context, request, &response).ok());
  ASSERT_EQ(response.choices_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(response.choices(i).text(), stream.text.at(i));
    EXPECT_EQ(response.choices(i).logprobs_size(), 40);
    EXPECT_EQ(response.choices(i).finish_reason(), v1::FINISH_REASON_LENGTH);
  }
  EXPECT_EQ(response.usage().completion_tokens(), 120);
  EXPECT_EQ(response.request_id(), "s");
}

TEST_F(DirectTest, GenerateHasReasoningAndCallsOfTools) {
  v1::GenerateRequest request;
  v1::GenerationSpec& spec = *request.mutable_generation();
  spec = ChatSpec(
      "t", "\x02<think>which?</think>Look: <tool_call>{\"name\": \"find\", \"arguments\": {\"x\": 1}}</tool_call>\x03", 200);
  spec.mutable_prompt()->mutable_chat()->add_tool_schemas(
      R"({"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}})");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = worker_.inference->Generate(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.choices_size(), 1);
  const v1::GenerateResponse::Choice& choice = response.choices(0);
  EXPECT_EQ(choice.reasoning(), "which?");
  EXPECT_THAT(choice.text(), ::testing::StartsWith("Look:"));
  ASSERT_EQ(choice.tool_calls_size(), 1);
  EXPECT_EQ(choice.tool_calls(0).name(), "find");
  EXPECT_EQ(choice.tool_calls(0).arguments(), R"({"x": 1})");
  EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
}

TEST_F(DirectTest, AStopStringEndsTheTextBeforeIt) {
  const Outcome plain = worker_.Stream(ChatSpec("p", "stop", 200));
  // Any piece in the middle of the text serves as a stop string; characters stay whole.
  const std::string& text = plain.text.at(0);
  size_t begin = text.find(' ', text.size() / 2);
  ASSERT_NE(begin, std::string::npos);
  const std::string stop = text.substr(begin, text.find(' ', begin + 1) - begin + 1);
  v1::GenerationSpec spec = ChatSpec("q", "stop", 200);
  spec.mutable_stop()->add_stop_strings(stop);
  const Outcome stopped = worker_.Stream(spec);
  EXPECT_EQ(stopped.text.at(0), text.substr(0, text.find(stop)));
  EXPECT_EQ(stopped.finished.choices(0).reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(stopped.finished.choices(0).matched_stop(), stop);
  EXPECT_EQ(stopped.finished.usage().completion_tokens(), static_cast<int>(stopped.tokens.at(0).size()));
}

// A stream that is cut after any number of tokens and resumed gives the same tokens, text and end: with several choices, a stop
// string that ends some of them, and characters and stop strings held back at the cut.
TEST_F(DirectTest, AResumeEqualsTheUndisturbedRun) {
  v1::GenerationSpec spec = ChatSpec("base", "resume me", 40, 3);
  spec.mutable_sampling()->set_choice_count(3);
  spec.mutable_stop()->add_stop_strings("OP");
  spec.mutable_stop()->add_stop_strings("海");
  const Outcome whole = worker_.Stream(spec);
  ASSERT_TRUE(whole.error.ok()) << whole.error;
  for (int cut = 0; cut <= 40; cut += 3) {
    // What a caller had seen when its worker was lost.
    v1::GenerationSpec first = spec;
    first.set_request_id("cut" + std::to_string(cut));
    v1::GenerationSpec second = first;
    second.set_request_id("resumed" + std::to_string(cut));
    Outcome seen;
    second.mutable_resume()->set_model_fingerprint(whole.started.model_fingerprint());
    second.mutable_resume()->set_next_seq(17);
    for (int i = 0; i < 3; ++i) {
      v1::ResumeFrom::Choice& choice = *second.mutable_resume()->add_choices();
      choice.set_index(i);
      const std::vector<int32_t>& tokens = whole.tokens.at(i);
      const int count = std::min<int>(cut, static_cast<int>(tokens.size()));
      choice.mutable_token_ids()->Add(tokens.begin(), tokens.begin() + count);
    }
    if (cut > 0) {
      first.mutable_stop()->set_max_tokens(cut);
      seen = worker_.Stream(first);
    }
    Outcome rest = worker_.Stream(second);
    ASSERT_TRUE(rest.error.ok()) << rest.error;
    for (int i = 0; i < 3; ++i) {
      std::vector<int32_t> tokens(whole.tokens.at(i).begin(),
                                  whole.tokens.at(i).begin() + std::min<size_t>(cut, whole.tokens.at(i).size()));
      tokens.insert(tokens.end(), rest.tokens[i].begin(), rest.tokens[i].end());
      EXPECT_EQ(tokens, whole.tokens.at(i)) << "choice " << i << " cut at " << cut;
      EXPECT_EQ(rest.finished.choices(i).reason(), whole.finished.choices(i).reason());
      // The tail of a text belongs to the end; before it, the text is that of the tokens alone.
      EXPECT_TRUE(whole.text.at(i).ends_with(rest.text[i])) << "choice " << i << " cut at " << cut;
    }
    EXPECT_EQ(rest.finished.usage().completion_tokens(), whole.finished.usage().completion_tokens());
  }
}

TEST_F(DirectTest, ADroppedCallFreesItsKv) {
  grpc::ClientContext context;
  v1::StreamGenerateRequest request;
  *request.mutable_generation() = ChatSpec("r", std::string(1000, 'x'), 3000);
  auto reader = worker_.inference->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(reader->Read(&response));
  EXPECT_GT(worker_.Load().kv_blocks_used(), 10);
  context.TryCancel();
  reader->Finish();
  AwaitFreeKv();
}

TEST_F(DirectTest, ADeadlineEndsTheRequest) {
  const Outcome outcome = worker_.Stream(ChatSpec("r", "hello", 4000), absl::Milliseconds(60));
  EXPECT_EQ(outcome.error.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(outcome.has_finished);
  AwaitFreeKv();
}

TEST_F(DirectTest, CancelByIdEndsAnotherCallsStream) {
  grpc::ClientContext context;
  v1::StreamGenerateRequest request;
  *request.mutable_generation() = ChatSpec("victim", "hello", 4000);
  auto reader = worker_.inference->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(reader->Read(&response));
  const auto cancel = [&](const std::string& id) {
    grpc::ClientContext cancel_context;
    v1::CancelRequest cancel_request;
    cancel_request.set_request_id(id);
    v1::CancelResponse cancel_response;
    EXPECT_TRUE(worker_.inference->Cancel(&cancel_context, cancel_request, &cancel_response).ok());
    return cancel_response.found();
  };
  EXPECT_FALSE(cancel("nobody"));
  EXPECT_TRUE(cancel("victim"));
  v1::Finished finished;
  int tokens = 0;
  while (reader->Read(&response)) {
    if (response.has_finished()) finished = response.finished();
  }
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(finished.choices_size(), 1);
  EXPECT_EQ(finished.choices(0).reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_GT(finished.usage().completion_tokens(), tokens);
  EXPECT_FALSE(cancel("victim"));
  AwaitFreeKv();
}

TEST_F(DirectTest, ARunningIdIsRefusedAndTakenOverWithResume) {
  grpc::ClientContext context;
  v1::StreamGenerateRequest request;
  *request.mutable_generation() = ChatSpec("one", "hello", 600);
  auto reader = worker_.inference->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  std::vector<int32_t> got;
  std::string text;
  uint64_t fingerprint = 0;
  while (got.size() < 20) {
    ASSERT_TRUE(reader->Read(&response));
    if (response.has_started()) fingerprint = response.started().model_fingerprint();
    got.insert(got.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
    text += response.delta().text();
  }
  const Outcome refused = worker_.Stream(request.generation());
  EXPECT_EQ(refused.error.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(rpc::Reason(refused.error), "REQUEST_EXISTS");
  v1::GenerationSpec resumed = request.generation();
  resumed.mutable_resume()->set_model_fingerprint(fingerprint);
  resumed.mutable_resume()->set_next_seq(21);
  v1::ResumeFrom::Choice& choice = *resumed.mutable_resume()->add_choices();
  choice.mutable_token_ids()->Add(got.begin(), got.end());
  const Outcome rest = worker_.Stream(resumed);
  ASSERT_TRUE(rest.error.ok()) << rest.error;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::ABORTED);
  const Outcome whole = worker_.Stream(ChatSpec("two", "hello", 600));
  EXPECT_EQ(got.size() + rest.tokens.at(0).size(), 600);
  EXPECT_EQ(text + rest.text.at(0), whole.text.at(0));
}

TEST_F(DirectTest, PromptsBeyondTheContextAreRefusedWithFigures) {
  const Outcome outcome = worker_.Stream(ChatSpec("r", std::string(5000, 'x'), 10));
  EXPECT_EQ(outcome.error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rpc::Reason(outcome.error), "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_THAT(std::string(outcome.error.message()), ::testing::HasSubstr("4096"));
  EXPECT_TRUE(worker_.Stream(ChatSpec("ok", "hello", 5)).error.ok());
}

TEST_F(DirectTest, BadRequestsCarryTheirFieldOverTheWire) {
  v1::GenerationSpec spec = ChatSpec("r", "hello", 10);
  spec.mutable_sampling()->set_temperature(-1);
  const Outcome outcome = worker_.Stream(spec);
  EXPECT_THAT(rpc::FieldViolations(outcome.error),
              ::testing::ElementsAre(::testing::Pair("sampling.temperature", ::testing::_)));
  spec = ChatSpec("r", "hello", 10);
  spec.set_model("unknown");
  EXPECT_EQ(worker_.Stream(spec).error.code(), absl::StatusCode::kNotFound);
}

TEST_F(DirectTest, OverloadIsRefusedWithRetryInfo) {
  worker::WorkerOptions options = TestWorker::Options();
  options.sim.slots = 2;
  TestWorker small(options);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::StreamGenerateResponse>>> readers;
  v1::StreamGenerateResponse response;
  for (int i = 0; i < 16; ++i) {
    v1::StreamGenerateRequest request;
    *request.mutable_generation() = ChatSpec("r" + std::to_string(i), "hello", 4000);
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(small.inference->StreamGenerate(contexts.back().get(), request));
  }
  while (small.Load().running() + small.Load().waiting() < 16) {
  }
  const Outcome refused = small.Stream(ChatSpec("late", "hello", 5));
  EXPECT_EQ(refused.error.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(rpc::Reason(refused.error), "OVERLOADED");
  EXPECT_TRUE(rpc::RetryAfter(refused.error).has_value());
  for (auto& context : contexts) context->TryCancel();
  for (auto& reader : readers) reader->Finish();
}

TEST_F(DirectTest, TokenizeAndDetokenizeAreInverse) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.mutable_prompt()->set_text("größe 🚢");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(worker_.inference->Tokenize(&context, request, &tokens).ok());
  grpc::ClientContext context2;
  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(worker_.inference->Detokenize(&context2, back, &text).ok());
  EXPECT_EQ(text.text(), "größe 🚢");
}

TEST(CallersTest, AreNotServedUnlessToldTo) {
  worker::WorkerOptions options = TestWorker::Options();
  options.serve_callers = false;
  TestWorker worker(options);
  EXPECT_EQ(worker.Stream(ChatSpec("r", "hello", 5)).error.code(), absl::StatusCode::kPermissionDenied);
}

TEST(CallersTest, KeysTellTheirTenantsAndKeepGatewaysOut) {
  worker::WorkerOptions options = TestWorker::Options();
  options.api_keys.keys = {"secret"};
  TestWorker worker(options);
  const auto tokenize = [&](const std::string& authorization) {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    v1::TokenizeRequest request;
    request.mutable_prompt()->set_text("hello");
    v1::TokenizeResponse response;
    return rpc::FromGrpc(worker.inference->Tokenize(&context, request, &response));
  };
  EXPECT_TRUE(tokenize("Bearer secret").ok());
  EXPECT_EQ(rpc::Reason(tokenize("Bearer guess")), "UNKNOWN_API_KEY");
  EXPECT_EQ(rpc::Reason(tokenize("")), "NO_API_KEY");
  EXPECT_EQ(worker.Stream(ChatSpec("r", "hello", 5)).error.code(), absl::StatusCode::kUnauthenticated);
  grpc::ClientContext context;
  auto link = worker.workers->Attach(&context);
  v1::AttachResponse frame;
  EXPECT_FALSE(link->Read(&frame));
  EXPECT_EQ(link->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED) << "it could name any tenant";
}

}  // namespace
}  // namespace berth::service
