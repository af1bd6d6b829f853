#include "gateway/relay/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>

#include "absl/random/random.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

using ::testing::ElementsAre;

const absl::Time kTime = absl::FromUnixSeconds(1234);

v1::GenerationSpec Spec() {
  v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text("x");
  return spec;
}

GenerationStream MakeStream(v1::GenerationSpec spec = Spec()) {
  absl::BitGen random;
  EXPECT_TRUE(FixGeneration(spec, random, kTime).ok());
  return GenerationStream({.tenant = "t", .spec = spec});
}

v1::Started StartedBy(uint64_t fingerprint = 7) {
  v1::Started started;
  started.set_worker_id("w0");
  started.set_worker_incarnation(5);
  started.set_model_fingerprint(fingerprint);
  return started;
}

v1::Delta DeltaOf(int index, const std::string& text, int choice = 0) {
  v1::Delta delta;
  delta.set_choice_index(choice);
  delta.add_token_ids(100 + index);
  delta.set_first_token_index(index);
  if (!text.empty()) delta.set_text(text);
  return delta;
}

std::string FieldOf(const absl::Status& status) {
  const auto violations = rpc::FieldViolations(status);
  return violations.empty() ? "" : violations.front().first;
}

TEST(FixGenerationTest, FixesWhatEveryWorkerMustDoAlike) {
  absl::BitGen random;
  v1::GenerationSpec a = Spec(), b = Spec();
  ASSERT_TRUE(FixGeneration(a, random, kTime).ok());
  ASSERT_TRUE(FixGeneration(b, random, kTime).ok());
  EXPECT_TRUE(a.sampling().has_seed());
  EXPECT_NE(a.sampling().seed(), b.sampling().seed());
  EXPECT_EQ(a.request_id().size(), 32u);
  EXPECT_NE(a.request_id(), b.request_id());
  EXPECT_EQ(a.template_clock().seconds(), 1234);
  EXPECT_EQ(a.sampling().choice_count(), 1);
}

TEST(FixGenerationTest, KeepsWhatTheCallerSet) {
  absl::BitGen random;
  v1::GenerationSpec spec = Spec();
  spec.set_request_id("mine");
  spec.mutable_sampling()->set_seed(0);
  spec.mutable_template_clock()->set_seconds(1);
  ASSERT_TRUE(FixGeneration(spec, random, kTime).ok());
  EXPECT_EQ(spec.request_id(), "mine");
  EXPECT_EQ(spec.sampling().seed(), 0u);
  EXPECT_EQ(spec.template_clock().seconds(), 1);
}

TEST(FixGenerationTest, ANameMayBeAnyUtf8) {
  absl::BitGen random;
  v1::GenerationSpec spec = Spec();
  spec.set_session_id("Grüße 🙂");
  spec.set_priority(-100);
  EXPECT_TRUE(FixGeneration(spec, random, kTime).ok());
}

TEST(FixGenerationTest, NamesTheFieldAtFault) {
  absl::BitGen random;
  const auto field = [&](v1::GenerationSpec spec) {
    const absl::Status status = FixGeneration(spec, random, kTime);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return FieldOf(status);
  };
  v1::GenerationSpec spec = Spec();
  spec.clear_prompt();
  EXPECT_EQ(field(spec), "prompt");
  spec = Spec();
  spec.set_session_id(std::string(257, 's'));
  EXPECT_EQ(field(spec), "session_id");
  spec = Spec();
  spec.set_request_id(std::string(257, 's'));
  EXPECT_EQ(field(spec), "request_id");
  spec = Spec();
  spec.set_session_id("broken \xff");
  EXPECT_EQ(field(spec), "session_id");
  spec = Spec();
  spec.set_request_id("half \xc3");
  EXPECT_EQ(field(spec), "request_id");
  spec = Spec();
  spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
  EXPECT_EQ(field(spec), "session_id");
  for (int priority : {-101, 101, INT_MIN, INT_MAX}) {
    spec = Spec();
    spec.set_priority(priority);
    EXPECT_EQ(field(spec), "priority") << priority;
  }
  for (int count : {0, -1, 129}) {
    spec = Spec();
    spec.mutable_sampling()->set_choice_count(count);
    EXPECT_EQ(field(spec), "sampling.choice_count");
  }
  spec = Spec();
  spec.mutable_stop()->add_stop_strings(std::string(2 << 20, 'x'));
  EXPECT_EQ(field(spec), "generation");
  spec = Spec();
  spec.mutable_resume()->add_choices()->set_index(1);
  EXPECT_EQ(field(spec), "resume.choices[0].index");
}

TEST(FixGenerationTest, ALargePromptIsFine) {
  absl::BitGen random;
  v1::GenerationSpec spec = Spec();
  spec.mutable_prompt()->set_text(std::string(8 << 20, 'x'));
  EXPECT_TRUE(FixGeneration(spec, random, kTime).ok());
}

TEST(GenerationStreamTest, MessagesFollowTheWorkersEvents) {
  GenerationStream stream = MakeStream();
  ASSERT_TRUE(stream.OnStarted(StartedBy()).ok());
  v1::Delta delta = DeltaOf(0, "hi");
  ASSERT_TRUE(stream.OnDelta(delta).ok());
  const auto first = stream.outbox().Take();
  EXPECT_EQ(first->message->request_id(), stream.request().spec.request_id());
  EXPECT_EQ(first->message->started().worker_id(), "w0");
  const auto second = stream.outbox().Take();
  EXPECT_EQ(second->message->seq(), 1u);
  EXPECT_TRUE(second->message->request_id().empty());
  EXPECT_EQ(second->message->delta().text(), "hi");
  EXPECT_TRUE(second->message->delta().token_ids().empty()) << "not asked for";
  v1::Finished finished;
  stream.OnFinished(finished);
  EXPECT_TRUE(stream.outbox().Take()->message->has_finished());
  EXPECT_TRUE(stream.outbox().Take()->end->ok());
}

TEST(GenerationStreamTest, TokenIdsComeWhenAskedFor) {
  v1::GenerationSpec spec = Spec();
  spec.mutable_output()->set_token_ids(true);
  GenerationStream stream = MakeStream(spec);
  v1::Delta delta = DeltaOf(0, "");
  ASSERT_TRUE(stream.OnDelta(delta).ok());
  EXPECT_THAT(stream.outbox().Take()->message->delta().token_ids(), ElementsAre(100));
}

TEST(GenerationStreamTest, ADeltaWithoutAnythingForTheCallerIsKeptBack) {
  GenerationStream stream = MakeStream();
  v1::Delta delta = DeltaOf(0, "");
  ASSERT_TRUE(stream.OnDelta(delta).ok());
  EXPECT_FALSE(stream.outbox().has_pending());
  EXPECT_THAT(stream.received_tokens(), ElementsAre(1));
}

TEST(GenerationStreamTest, LostOrRepeatedTokensAreAnError) {
  GenerationStream stream = MakeStream();
  v1::Delta delta = DeltaOf(0, "a");
  ASSERT_TRUE(stream.OnDelta(delta).ok());
  for (int wrong : {0, 2}) {
    v1::Delta next = DeltaOf(wrong, "b");
    EXPECT_EQ(stream.OnDelta(next).code(), absl::StatusCode::kInternal);
  }
  v1::Delta stray = DeltaOf(0, "c", 1);
  EXPECT_EQ(stream.OnDelta(stray).code(), absl::StatusCode::kInternal);
}

TEST(GenerationStreamTest, ResumesWithAllThatWasGenerated) {
  v1::GenerationSpec spec = Spec();
  spec.mutable_sampling()->set_choice_count(2);
  GenerationStream stream = MakeStream(spec);
  ASSERT_TRUE(stream.OnStarted(StartedBy(42)).ok());
  v1::Delta a = DeltaOf(0, "a", 0), b = DeltaOf(0, "b", 1), c = DeltaOf(1, "c", 1);
  ASSERT_TRUE(stream.OnDelta(a).ok() && stream.OnDelta(b).ok() && stream.OnDelta(c).ok());
  const v1::GenerationSpec resume = stream.ResumeSpec("w0");
  EXPECT_EQ(resume.resume().model_fingerprint(), 42u);
  EXPECT_EQ(resume.resume().next_seq(), stream.outbox().end_seq());
  EXPECT_THAT(resume.resume().choices(0).token_ids(), ElementsAre(100));
  EXPECT_THAT(resume.resume().choices(1).token_ids(), ElementsAre(100, 101));
  EXPECT_EQ(resume.sampling().seed(), stream.request().spec.sampling().seed());
  EXPECT_THAT(stream.lost_holders(), ElementsAre("w0/5"));

  v1::Started again = StartedBy(42);
  again.set_worker_id("w1");
  ASSERT_TRUE(stream.OnStarted(again).ok());
  while (auto item = stream.outbox().Take()) {
    if (!item->message->has_resumed()) continue;
    EXPECT_EQ(item->message->resumed().worker_id(), "w1");
    EXPECT_EQ(item->message->resumed().lost_worker_id(), "w0");
    EXPECT_EQ(item->message->resumed().replayed_tokens(), 3);
    return;
  }
  FAIL() << "no Resumed";
}

TEST(GenerationStreamTest, APromptsLogprobsAreAskedForOnce) {
  GenerationStream stream = MakeStream();
  ASSERT_TRUE(stream.OnStarted(StartedBy(42)).ok());
  for (int i = 0; i < 2; ++i) {
    v1::Delta piece;
    for (int k = 0; k < 3; ++k) piece.add_prompt_logprobs();
    ASSERT_TRUE(stream.OnDelta(piece).ok());
  }
  EXPECT_EQ(stream.outbox().end_seq(), 3u);
  EXPECT_EQ(stream.ResumeSpec("w0").resume().prompt_logprobs(), 6);
  EXPECT_EQ(stream.received_prompt_logprobs(), 6);
}

TEST(GenerationStreamTest, BeforeAStartTheRequestIsSimplySentAgain) {
  GenerationStream stream = MakeStream();
  const v1::GenerationSpec again = stream.ResumeSpec("w0");
  EXPECT_FALSE(again.has_resume());
  ASSERT_TRUE(stream.OnStarted(StartedBy()).ok());
  EXPECT_TRUE(stream.outbox().Take()->message->has_started());
}

TEST(GenerationStreamTest, AnotherModelCannotGoOn) {
  GenerationStream stream = MakeStream();
  ASSERT_TRUE(stream.OnStarted(StartedBy(42)).ok());
  stream.ResumeSpec("w0");
  const absl::Status status = stream.OnStarted(StartedBy(43));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(rpc::Reason(status), "WORKER_LOST");
}

TEST(GenerationStreamTest, ACallersOwnResumeGoesOnInItsNumbering) {
  v1::GenerationSpec spec = Spec();
  spec.mutable_resume()->set_next_seq(9);
  spec.mutable_resume()->add_choices()->add_token_ids(100);
  GenerationStream stream = MakeStream(spec);
  EXPECT_THAT(stream.received_tokens(), ElementsAre(1));
  ASSERT_TRUE(stream.OnStarted(StartedBy()).ok());
  const auto item = stream.outbox().Take();
  EXPECT_EQ(item->message->seq(), 9u);
  EXPECT_TRUE(item->message->has_resumed());
  v1::Delta next = DeltaOf(1, "b");
  EXPECT_TRUE(stream.OnDelta(next).ok());
}

}  // namespace
}  // namespace berth::relay
