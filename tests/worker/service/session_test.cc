#include <unistd.h>

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/test_worker.h"
#include "tests/worker/service/core_fixture.h"

namespace berth::service {
namespace {

using berth::testing::ChatSpec;
using berth::testing::CollectingSink;
using berth::testing::CoreFixture;
using berth::testing::GatedJournal;
using berth::testing::Outcome;
using berth::testing::TestWorker;

class SessionTest : public ::testing::Test {
 protected:
  static v1::GenerationSpec Turn(const std::string& session, const std::string& request, const std::string& text,
                                 int max_tokens) {
    v1::GenerationSpec spec = ChatSpec(request, text, max_tokens);
    spec.set_session_id(session);
    spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
    return spec;
  }
  static v1::GenerationSpec Start(const std::string& session, const std::string& request, const std::string& text,
                                  int max_tokens) {
    v1::GenerationSpec spec = Turn(session, request, text, max_tokens);
    spec.mutable_session()->set_start(true);
    return spec;
  }
  absl::StatusOr<v1::GetSessionResponse> Get(const std::string& session) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_session_id(session);
    v1::GetSessionResponse response;
    const grpc::Status status = worker_.sessions->GetSession(&context, request, &response);
    if (!status.ok()) return rpc::FromGrpc(status);
    return response;
  }

  TestWorker worker_;
};

TEST_F(SessionTest, ATurnEqualsTheWholeConversationSentAtOnce) {
  const Outcome first = worker_.Stream(Start("s", "t1", "one", 20));
  ASSERT_TRUE(first.error.ok()) << first.error;
  EXPECT_EQ(first.finished.session_position(), first.started.session_position() + 20);
  const Outcome second = worker_.Stream(Turn("s", "t2", "two", 20));
  ASSERT_TRUE(second.error.ok()) << second.error;
  v1::GenerationSpec whole = ChatSpec("w", "one", 20);
  const auto add = [&](const char* role, const std::string& content) {
    v1::ChatMessage& message = *whole.mutable_prompt()->mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  add("assistant", first.text.at(0));
  add("user", "two");
  const Outcome at_once = worker_.Stream(whole);
  EXPECT_EQ(second.started.prompt_tokens(), at_once.started.prompt_tokens());
  EXPECT_EQ(second.text, at_once.text);
  EXPECT_EQ(Get("s")->position(), second.finished.session_position());
  EXPECT_EQ(Get("s")->version(), 2);
}

TEST_F(SessionTest, ErrorsOfOpeningAndPositions) {
  EXPECT_EQ(rpc::Reason(worker_.Stream(Turn("none", "a", "x", 5)).error), "SESSION_NOT_FOUND");
  ASSERT_TRUE(worker_.Stream(Start("s", "b", "x", 5)).error.ok());
  const Outcome exists = worker_.Stream(Start("s", "c", "x", 5));
  EXPECT_EQ(exists.error.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(rpc::Reason(exists.error), "SESSION_EXISTS");
  v1::GenerationSpec replace = Start("s", "d", "y", 5);
  replace.mutable_session()->set_replace(true);
  EXPECT_TRUE(worker_.Stream(replace).error.ok());
  v1::GenerationSpec beyond = Turn("s", "e", "z", 5);
  beyond.mutable_session()->set_position(100000);
  EXPECT_EQ(worker_.Stream(beyond).error.code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(worker_.Stream(Turn("s", "f", "z", 5)).error.ok()) << "a refused turn leaves the session as it was";
}

TEST_F(SessionTest, ARewindRepeatsTheTurnFromThere) {
  const auto verbatim = [](v1::GenerationSpec spec, const std::string& text) {
    spec.mutable_prompt()->set_text(text);
    return spec;
  };
  const Outcome first = worker_.Stream(verbatim(Start("s", "a", "", 10), "one"));
  const Outcome second = worker_.Stream(verbatim(Turn("s", "b", "", 10), "two"));
  v1::GenerationSpec again = verbatim(Turn("s", "c", "", 10), "two");
  again.mutable_session()->set_position(first.finished.session_position());
  const Outcome third = worker_.Stream(again);
  EXPECT_EQ(third.text, second.text);
  EXPECT_EQ(third.finished.session_position(), second.finished.session_position());
}

TEST_F(SessionTest, TheLastCommittedRequestIsAnsweredAgainNotAppended) {
  v1::GenerationSpec spec = Start("s", "same", "one", 15);
  const Outcome first = worker_.Stream(spec);
  const Outcome again = worker_.Stream(spec);
  ASSERT_TRUE(again.error.ok()) << again.error;
  EXPECT_EQ(again.text, first.text);
  EXPECT_EQ(again.tokens, first.tokens);
  EXPECT_EQ(again.finished.session_position(), first.finished.session_position());
  EXPECT_EQ(again.finished.choices(0).reason(), first.finished.choices(0).reason());
  EXPECT_EQ(Get("s")->version(), 1);
}

TEST_F(SessionTest, ATurnAtATimeAndACancelKeepsWhatWasSent) {
  grpc::ClientContext context;
  v1::StreamGenerateRequest request;
  *request.mutable_generation() = Start("s", "long", "one", 3000);
  auto reader = worker_.inference->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  std::vector<int32_t> tokens;
  int64_t position = 0;
  while (tokens.size() < 10) {
    ASSERT_TRUE(reader->Read(&response));
    if (response.has_started()) position = response.started().session_position();
    tokens.insert(tokens.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
  }
  EXPECT_EQ(rpc::Reason(worker_.Stream(Turn("s", "other", "x", 5)).error), "SESSION_BUSY");
  EXPECT_TRUE(Get("s")->busy());
  grpc::ClientContext cancel_context;
  v1::CancelRequest cancel;
  cancel.set_session_id("s");
  v1::CancelResponse cancelled;
  ASSERT_TRUE(worker_.inference->Cancel(&cancel_context, cancel, &cancelled).ok());
  EXPECT_TRUE(cancelled.found());
  int64_t end = 0;
  while (reader->Read(&response)) {
    tokens.insert(tokens.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
    if (response.has_finished()) end = response.finished().session_position();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(end, position + static_cast<int64_t>(tokens.size()));
  EXPECT_EQ(Get("s")->position(), end);
  EXPECT_TRUE(worker_.Stream(Turn("s", "next", "two", 5)).error.ok());
}

TEST_F(SessionTest, ADroppedCallKeepsTheSessionUsable) {
  grpc::ClientContext context;
  v1::StreamGenerateRequest request;
  *request.mutable_generation() = Start("s", "dropped", "one", 3000);
  auto reader = worker_.inference->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  reader->Finish();
  absl::StatusOr<v1::GetSessionResponse> info;
  do {
    info = Get("s");
  } while (info.ok() && info->busy());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_GT(info->position(), 5);
  EXPECT_TRUE(worker_.Stream(Turn("s", "next", "two", 5)).error.ok());
}

TEST_F(SessionTest, EndAndCloseFreeTheSession) {
  v1::GenerationSpec last = Start("s", "a", "one", 5);
  last.mutable_session()->set_end(true);
  ASSERT_TRUE(worker_.Stream(last).error.ok());
  EXPECT_EQ(rpc::Reason(worker_.Stream(Turn("s", "b", "x", 5)).error), "SESSION_NOT_FOUND");
  ASSERT_TRUE(worker_.Stream(Start("t", "c", "one", 5)).error.ok());
  for (const bool found : {true, false}) {
    grpc::ClientContext context;
    v1::CloseSessionRequest request;
    request.set_session_id("t");
    v1::CloseSessionResponse response;
    ASSERT_TRUE(worker_.sessions->CloseSession(&context, request, &response).ok());
    EXPECT_EQ(response.found(), found);
  }
}

TEST_F(SessionTest, AForkGoesItsOwnWay) {
  ASSERT_TRUE(worker_.Stream(Start("s", "a", "one", 10)).error.ok());
  grpc::ClientContext context;
  v1::ForkSessionRequest request;
  request.set_session_id("s");
  v1::ForkSessionResponse fork;
  ASSERT_TRUE(worker_.sessions->ForkSession(&context, request, &fork).ok());
  EXPECT_EQ(fork.session_id(), "s~1");
  const Outcome child = worker_.Stream(Turn("s~1", "b", "two", 10));
  const Outcome parent = worker_.Stream(Turn("s", "c", "two", 10));
  EXPECT_EQ(child.text, parent.text);
  EXPECT_EQ(Get("s~1")->position(), Get("s")->position());
}

TEST_F(SessionTest, VerbatimTurnsAppendTokens) {
  v1::GenerationSpec spec = Start("v", "a", "", 4);
  spec.mutable_prompt()->set_text("abc");
  const Outcome first = worker_.Stream(spec);
  EXPECT_EQ(first.finished.session_position(), 7);
  spec = Turn("v", "b", "", 4);
  spec.mutable_prompt()->set_text("d");
  const Outcome second = worker_.Stream(spec);
  EXPECT_EQ(second.started.session_position(), 8);
  EXPECT_EQ(second.finished.session_position(), 12);
}

TEST_F(SessionTest, HasSessionTellsWithoutTouching) {
  ASSERT_TRUE(worker_.Stream(Start("s", "a", "one", 5)).error.ok());
  for (const auto& [id, found] : {std::pair("s", true), std::pair("t", false)}) {
    grpc::ClientContext context;
    v1::HasSessionRequest request;
    request.set_session_id(id);
    v1::HasSessionResponse response;
    ASSERT_TRUE(worker_.workers->HasSession(&context, request, &response).ok());
    EXPECT_EQ(response.found(), found) << id;
    EXPECT_EQ(response.version(), found ? 1 : 0);
  }
}

TEST_F(SessionTest, ATurnAnsweredAgainIsReadAsAtFirst) {
  CoreFixture fixture("w", std::make_shared<GatedJournal::State>());
  fixture.model.chat_template = *text::ParseChatTemplate(
      "{% for message in messages %}<msg>{{ message.role }}\n{{ message.content }}<eos>{% endfor %}"
      "{% if add_generation_prompt %}<msg>assistant\n<think>\n{% endif %}",
      "", "<eos>");
  for (const v1::GenerationSpec& spec : {Start("s", "1", "one", 15), Turn("s", "2", "two", 15)}) {
    CollectingSink first, again;
    fixture.Run(spec, first);
    fixture.Run(spec, again);
    ASSERT_TRUE(again.error.ok()) << again.error;
    EXPECT_FALSE(first.reasoning.empty());
    EXPECT_EQ(again.reasoning, first.reasoning);
    EXPECT_EQ(again.text, first.text);
    EXPECT_EQ(again.started.session_position(), first.started.session_position());
    EXPECT_EQ(again.finished.session_position(), first.finished.session_position());
  }
}

// A new process with the same journal goes on where the old one stopped.
TEST(SessionJournalTest, SessionsOutliveTheirWorker) {
  const std::string path = ::testing::TempDir() + "/berth_service_test_" + std::to_string(getpid()) + ".db";
  worker::WorkerOptions options = TestWorker::Options();
  options.journal = "sqlite:" + path;
  v1::GenerationSpec spec = ChatSpec("a", "one", 10);
  spec.set_session_id("s");
  spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  spec.mutable_session()->set_start(true);
  int64_t position = 0;
  {
    TestWorker first(options);
    position = first.Stream(spec).finished.session_position();
  }
  TestWorker second(options);
  spec.set_request_id("b");
  spec.mutable_session()->set_start(false);
  const Outcome outcome = second.Stream(spec);
  ASSERT_TRUE(outcome.error.ok()) << outcome.error;
  EXPECT_GT(outcome.started.session_position(), position);
  std::filesystem::remove(path);
  std::filesystem::remove(path + "-wal");
  std::filesystem::remove(path + "-shm");
}

}  // namespace
}  // namespace berth::service
