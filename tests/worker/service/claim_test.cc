#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/rpc/status.h"
#include "tests/support/test_worker.h"
#include "tests/worker/service/core_fixture.h"

namespace berth::service {
namespace {

using berth::testing::ChatSpec;
using berth::testing::CollectingSink;
using berth::testing::CoreFixture;
using berth::testing::GatedJournal;

class ClaimTest : public ::testing::Test {
 protected:
  static v1::GenerationSpec Turn(const std::string& request, const std::string& text, int max_tokens = 10) {
    v1::GenerationSpec spec = ChatSpec(request, text, max_tokens);
    spec.set_session_id("s");
    spec.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
    return spec;
  }
  static v1::GenerationSpec Start(const std::string& request, const std::string& text, int max_tokens = 10) {
    v1::GenerationSpec spec = Turn(request, text, max_tokens);
    spec.mutable_session()->set_start(true);
    return spec;
  }
  // The next claim waits for it.
  std::shared_ptr<base::Notification> HoldClaim(absl::Status refusal = absl::OkStatus()) {
    auto gate = std::make_shared<base::Notification>();
    base::MutexLock lock(journal_->mutex);
    journal_->gate = gate;
    journal_->refusal = std::move(refusal);
    return gate;
  }
  // What the turns give when nothing is held up.
  static std::string Undisturbed(const std::vector<v1::GenerationSpec>& turns) {
    CoreFixture fixture("undisturbed", std::make_shared<GatedJournal::State>());
    std::string text;
    for (const v1::GenerationSpec& turn : turns) {
      CollectingSink sink;
      fixture.Run(turn, sink);
      EXPECT_TRUE(sink.error.ok()) << sink.error;
      text = sink.text;
    }
    return text;
  }
  int64_t Position(CoreFixture& fixture) {
    base::Notification done;
    int64_t position = -1;
    fixture.sessions.Get({.model = "sim", .session_id = "s"}, [&](absl::StatusOr<session::SessionInfo> info) {
      if (info.ok()) position = info->position;
      done.Notify();
    });
    done.Wait();
    return position;
  }

  const std::shared_ptr<GatedJournal::State> journal_ = std::make_shared<GatedJournal::State>();
};

TEST_F(ClaimTest, TheEngineWorksWhileTheClaimRunsAndNothingLeaves) {
  CoreFixture fixture("a", journal_);
  CollectingSink first, second;
  const auto first_gate = HoldClaim();
  fixture.Submit(Start("1", "one"), first);
  fixture.AwaitTokens(10);  // a new session's first turn, up to its end
  fixture.OnShard([&] { EXPECT_EQ(first.count, 0); });
  first_gate->Notify();
  first.ended.Wait();
  ASSERT_TRUE(first.error.ok()) << first.error;

  const auto second_gate = HoldClaim();
  fixture.Submit(Turn("2", "two", 200), second);
  fixture.AwaitTokens(5);  // a turn of a session in memory, in its midst
  fixture.OnShard([&] { EXPECT_EQ(second.count, 0); });
  second_gate->Notify();
  second.ended.Wait();
  EXPECT_EQ(second.text, Undisturbed({Start("1", "one"), Turn("2", "two", 200)}));
  EXPECT_EQ(second.tokens.size(), 200);
  EXPECT_EQ(second.finished.session_position(), Position(fixture));
}

TEST_F(ClaimTest, WorkOnAStaleCopyBeginsAgainOnTheNewestHistory) {
  CoreFixture here("a", journal_), elsewhere("b", journal_);
  CollectingSink first, second, third;
  here.Run(Start("1", "one"), first);
  elsewhere.Run(Turn("2", "two"), second);
  here.AwaitTokens(10);
  const auto gate = HoldClaim();
  here.Submit(Turn("3", "three"), third);
  here.AwaitTokens(10);  // of the history without the second turn
  gate->Notify();
  third.ended.Wait();
  ASSERT_TRUE(third.error.ok()) << third.error;
  EXPECT_EQ(third.text, Undisturbed({Start("1", "one"), Turn("2", "two"), Turn("3", "three")}));
  EXPECT_EQ(third.tokens.size(), 10);
  EXPECT_GT(third.started.session_position(), second.finished.session_position());
  EXPECT_EQ(third.finished.session_position(), Position(here));
}

TEST_F(ClaimTest, AnErrorOfWorkOnAStaleCopyIsNotTheCallers) {
  CoreFixture here("a", journal_), elsewhere("b", journal_);
  const std::string half(2000, 'x');
  CollectingSink first, second, third;
  here.Run(Start("1", half), first);
  v1::GenerationSpec rewind = Start("2", "short");
  rewind.mutable_session()->set_replace(true);
  elsewhere.Run(rewind, second);
  const auto gate = HoldClaim();
  here.Submit(Turn("3", half + half.substr(100)), third);  // too long for the old history only
  for (bool failed = false; !failed;) here.OnShard([&] { failed = here.core.Find("", "3")->end_waits; });
  gate->Notify();
  third.ended.Wait();
  EXPECT_TRUE(third.error.ok()) << third.error;
  EXPECT_EQ(third.tokens.size(), 10);
}

TEST_F(ClaimTest, ARefusedClaimEndsTheWork) {
  CoreFixture fixture("a", journal_);
  CollectingSink first, second, third;
  fixture.Run(Start("1", "one"), first);
  fixture.AwaitTokens(10);
  const auto gate = HoldClaim(absl::AbortedError("SESSION_BUSY: b/1 runs a turn of this session"));
  fixture.Submit(Turn("2", "two", 3000), second);
  fixture.AwaitTokens(5);
  gate->Notify();
  second.ended.Wait();
  EXPECT_EQ(second.error.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(rpc::Reason(second.error), "SESSION_BUSY");
  EXPECT_EQ(second.count, 1);
  // Its sequence is out of the engine, and the session as it was.
  fixture.Run(Turn("3", "two"), third);
  EXPECT_EQ(fixture.engine.Stats().running, 0);
  EXPECT_EQ(third.text, Undisturbed({Start("1", "one"), Turn("3", "two")}));
}

TEST_F(ClaimTest, ACancelledTurnsSessionIsFreeForTheNext) {
  CoreFixture here("a", journal_), elsewhere("b", journal_);
  CollectingSink first, second, cancelled, next;
  here.Run(Start("1", "one"), first);
  elsewhere.Run(Turn("2", "two"), second);
  here.AwaitTokens(10);
  const auto gate = HoldClaim();
  here.Submit(Turn("3", "three", 3000), cancelled);  // on a stale copy, so that its work would begin again
  here.AwaitTokens(5);
  here.OnShard([&] { EXPECT_TRUE(here.core.Cancel(*here.core.Find("", "3"))); });
  gate->Notify();
  cancelled.ended.Wait();
  EXPECT_EQ(cancelled.error.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(cancelled.count, 1);
  here.Run(Turn("4", "three"), next);
  ASSERT_TRUE(next.error.ok()) << next.error;
  EXPECT_EQ(next.text, Undisturbed({Start("1", "one"), Turn("2", "two"), Turn("4", "three")}));
}

TEST_F(ClaimTest, ASuspectIsPrefilledAlone) {
  struct OrderedSink : CollectingSink {
    std::string name;
    std::vector<std::string>* order = nullptr;  // of the first tokens
    void OnEvents(Request& request) override {
      const bool before = tokens.empty();
      CollectingSink::OnEvents(request);
      if (before && !tokens.empty()) order->push_back(name);
    }
  };
  CoreFixture fixture("a", journal_);
  std::vector<std::string> order;
  OrderedSink sinks[3];
  for (int i = 0; i < 3; ++i) {
    sinks[i].name = "abc"[i];
    sinks[i].order = &order;
  }
  // A prompt of many steps, a suspect with a short one, and another short one.
  fixture.Submit(ChatSpec("a", std::string(3000, 'x'), 4), sinks[0]);
  fixture.Submit(ChatSpec("b", "short", 4), sinks[1], /*suspect=*/true);
  fixture.Submit(ChatSpec("c", "short too", 4), sinks[2]);
  for (CollectingSink& sink : sinks) sink.ended.Wait();
  EXPECT_THAT(order, ::testing::ElementsAre("a", "b", "c"));
}

// A prompt that rotates otherwise finds nothing of what shorter ones left in the cache, and later ones like it do.
TEST(RopeVariantTest, PromptsOfOneVariantShareTheirCache) {
  CoreFixture fixture("w", std::make_shared<GatedJournal::State>());
  fixture.model.rope_lengths = {200};
  const auto cached_tokens = [&](const char* request, int tokens) {
    v1::GenerationSpec spec = ChatSpec(request, "", 2);
    for (int i = 0; i < tokens; ++i) spec.mutable_prompt()->mutable_token_ids()->add_ids(text::SimVocabulary::kFirstPiece);
    CollectingSink sink;
    fixture.Run(spec, sink);
    EXPECT_TRUE(sink.error.ok()) << sink.error;
    return sink.finished.usage().cached_tokens();
  };
  EXPECT_EQ(cached_tokens("1", 150), 0);
  EXPECT_EQ(cached_tokens("2", 200), 128);
  EXPECT_EQ(cached_tokens("3", 250), 0);
  EXPECT_EQ(cached_tokens("4", 250), 192);
}

}  // namespace
}  // namespace berth::service
