#include "worker/session/session_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mutex.h"
#include "tests/support/fake_clock.h"
#include "tests/worker/session/requests.h"

namespace berth::session {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kKey;

// Several stores may share one journal, as workers share a file; it can be made to fail.
class SharedJournal : public Journal {
 public:
  struct State {
    std::unique_ptr<Journal> journal = MakeMemoryJournal();
    bool gone = false;
    bool damaged = false;  // what it has cannot be read
    int failures = 0;      // of the next calls
    int commits = 0;       // that were tried
    bool Fails() { return gone || (failures > 0 && failures-- > 0); }
  };
  explicit SharedJournal(std::shared_ptr<State> state) : state_(std::move(state)) {}

  absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) override {
    if (state_->Fails()) return Gone();
    return state_->journal->DoClaim(request);
  }
  absl::StatusOr<uint64_t> Commit(const CommitRequest& request) override {
    ++state_->commits;
    if (state_->Fails()) return Gone();
    return state_->journal->Commit(request);
  }
  absl::Status Release(const SessionKey& key, uint64_t fence) override {
    return state_->Fails() ? Gone() : state_->journal->Release(key, fence);
  }
  absl::StatusOr<History> Load(const SessionKey& key) override {
    if (state_->Fails()) return Gone();
    if (state_->damaged) return absl::DataLossError("it is damaged");
    return state_->journal->Load(key);
  }
  absl::Status Sweep(absl::Time before) override { return state_->journal->Sweep(before); }
  std::string domain() const override { return "shared"; }

 private:
  static absl::Status Gone() { return absl::UnavailableError("JOURNAL_UNAVAILABLE: it is gone"); }
  std::shared_ptr<State> state_;
};

// Waits for an asynchronous answer.
template <typename T>
class Answer {
 public:
  auto Callback() {
    return [this](absl::StatusOr<T> value) {
      value_ = std::move(value);
      done_.Notify();
    };
  }
  absl::StatusOr<T> Get() {
    done_.Wait();
    return std::move(value_);
  }

 private:
  absl::StatusOr<T> value_;
  base::Notification done_;
};

class SessionStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<SessionStore> MakeStore(std::string holder, size_t history_bytes = 1 << 20, size_t pending_bytes = 1 << 20) {
    return std::make_unique<SessionStore>(SessionStoreOptions{.holder = std::move(holder),
                                                              .ttl = absl::Hours(1),
                                                              .max_sessions = 4,
                                                              .history_bytes = history_bytes,
                                                              .pending_bytes = pending_bytes},
                                          std::make_unique<SharedJournal>(state_), clock_);
  }

  absl::StatusOr<Turn> Begin(SessionStore& store, TurnOptions options, const SessionKey& key = kKey) {
    Answer<Turn> answer;
    store.BeginTurn(key, std::move(options), answer.Callback());
    return answer.Get();
  }

  absl::StatusOr<int64_t> Commit(SessionStore& store, const Turn& turn, std::vector<int32_t> tokens, bool end = false) {
    Answer<int64_t> answer;
    TurnResult result{
        .from_position = static_cast<int64_t>(turn.history->tokens.size()), .tokens = std::move(tokens), .end = end};
    result.messages = turn.history->messages;
    const int64_t length = result.from_position + static_cast<int64_t>(result.tokens.size());
    result.messages.push_back({.role = "assistant", .content = "x", .begin = result.from_position, .end = length});
    store.CommitTurn(turn, std::move(result), answer.Callback());
    return answer.Get();
  }

  // A whole turn that must succeed.
  int64_t Say(SessionStore& store, TurnOptions options, std::vector<int32_t> tokens, const SessionKey& key = kKey) {
    const auto turn = Begin(store, std::move(options), key);
    EXPECT_TRUE(turn.ok()) << turn.status();
    if (!turn.ok()) return -1;
    const auto position = Commit(store, *turn, std::move(tokens));
    EXPECT_TRUE(position.ok()) << position.status();
    return position.value_or(-1);
  }

  absl::StatusOr<SessionInfo> Get(SessionStore& store, const SessionKey& key = kKey) {
    Answer<SessionInfo> answer;
    store.Get(key, answer.Callback());
    return answer.Get();
  }

  absl::StatusOr<bool> Close(SessionStore& store, const SessionKey& key = kKey) {
    Answer<bool> answer;
    store.Close(key, answer.Callback());
    return answer.Get();
  }

  testing::FakeClock clock_;
  std::shared_ptr<SharedJournal::State> state_ = std::make_shared<SharedJournal::State>();
};

TEST_F(SessionStoreTest, TurnsBuildUpAHistory) {
  auto store = MakeStore("w0/1");
  EXPECT_EQ(Say(*store, {.request_id = "a", .start = true}, {1, 2}), 2);
  EXPECT_EQ(Say(*store, {.request_id = "b"}, {3}), 3);
  const auto turn = Begin(*store, {.request_id = "c"});
  EXPECT_THAT(turn->history->tokens, ElementsAre(1, 2, 3));
  EXPECT_EQ(turn->history->messages.size(), 2u);
  EXPECT_EQ(store->open_sessions(), 1);
}

TEST_F(SessionStoreTest, OneTurnAtATime) {
  auto store = MakeStore("w0/1");
  const auto turn = Begin(*store, {.request_id = "a", .start = true});
  const auto second = Begin(*store, {.request_id = "b"});
  EXPECT_TRUE(absl::IsAborted(second.status()));
  EXPECT_THAT(second.status().message(), HasSubstr("SESSION_BUSY"));
  EXPECT_TRUE(Commit(*store, *turn, {1}).ok());
  EXPECT_EQ(Say(*store, {.request_id = "b"}, {2}), 2);
}

TEST_F(SessionStoreTest, AnAbandonedFirstTurnLeavesNoSession) {
  auto store = MakeStore("w0/1");
  store->AbandonTurn(*Begin(*store, {.start = true}));
  EXPECT_THAT(Begin(*store, {}).status().message(), HasSubstr("SESSION_NOT_FOUND"));
  EXPECT_EQ(store->open_sessions(), 0);
}

TEST_F(SessionStoreTest, StartOnAnOpenSessionNeedsReplace) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1, 2});
  const auto again = Begin(*store, {.request_id = "b", .start = true});
  EXPECT_TRUE(absl::IsAlreadyExists(again.status()));
  EXPECT_EQ(Get(*store)->position, 2);
  EXPECT_EQ(Say(*store, {.request_id = "c", .start = true, .replace = true}, {7}), 1);
  EXPECT_THAT(Begin(*store, {.request_id = "d"})->history->tokens, ElementsAre(7));
}

TEST_F(SessionStoreTest, ARetriedRequestIsAnsweredAgain) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1, 2});
  const auto retried = Begin(*store, {.request_id = "a", .start = true});
  ASSERT_TRUE(retried.ok()) << retried.status();
  EXPECT_TRUE(retried->repeated);
  EXPECT_THAT(retried->history->tokens, ElementsAre(1, 2));
  store->AbandonTurn(*retried);
  EXPECT_FALSE(Begin(*store, {.request_id = "b"})->repeated);
}

TEST_F(SessionStoreTest, PositionRewindsAndMarksACutMessage) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1, 2});
  Say(*store, {.request_id = "b"}, {3, 4, 5});
  for (const int64_t position : {-1, 6}) {
    const auto refused = Begin(*store, {.request_id = "x", .position = position});
    EXPECT_TRUE(absl::IsOutOfRange(refused.status())) << position;
  }
  const auto turn = Begin(*store, {.request_id = "c", .position = 3});
  EXPECT_THAT(turn->history->tokens, ElementsAre(1, 2, 3));
  ASSERT_EQ(turn->history->messages.size(), 2u);
  EXPECT_TRUE(turn->history->messages[1].cut);
  EXPECT_EQ(turn->history->messages[1].end, 3);
  EXPECT_TRUE(Commit(*store, *turn, {9}).ok());
  EXPECT_THAT(Begin(*store, {.request_id = "d"})->history->tokens, ElementsAre(1, 2, 3, 9));
}

TEST_F(SessionStoreTest, EndClosesAfterTheTurn) {
  auto store = MakeStore("w0/1");
  const auto turn = Begin(*store, {.request_id = "a", .start = true});
  EXPECT_EQ(*Commit(*store, *turn, {1, 2}, /*end=*/true), 2);
  EXPECT_TRUE(absl::IsFailedPrecondition(Begin(*store, {.request_id = "b"}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Get(*store).status()));
}

TEST_F(SessionStoreTest, CloseTellsWhetherItExistedAndRefusesARunningOne) {
  auto store = MakeStore("w0/1");
  EXPECT_FALSE(*Close(*store));
  const auto turn = Begin(*store, {.request_id = "a", .start = true});
  EXPECT_TRUE(absl::IsAborted(Close(*store).status()));
  EXPECT_TRUE(Commit(*store, *turn, {1}).ok());
  EXPECT_TRUE(*Close(*store));
  EXPECT_FALSE(*Close(*store));
}

TEST_F(SessionStoreTest, AnotherWorkerGoesOnFromTheJournal) {
  auto first = MakeStore("w0/1");
  auto second = MakeStore("w1/1");
  Say(*first, {.request_id = "a", .start = true}, {1});
  Say(*second, {.request_id = "b"}, {2});
  // The first worker's copy is stale by now.
  EXPECT_THAT(Begin(*first, {.request_id = "c"})->history->tokens, ElementsAre(1, 2));
}

TEST_F(SessionStoreTest, ASessionThatAnotherWorkerClosedIsStartedWithoutTheOldCopy) {
  state_->journal = *OpenSqliteJournal(testing::TemporaryPath("anew"));
  auto first = MakeStore("w0/1");
  Say(*first, {.request_id = "a", .start = true}, {1, 2});
  EXPECT_TRUE(*Close(*MakeStore("w1/1")));
  Say(*first, {.request_id = "b", .start = true}, {1, 2});
  const auto next = Begin(*MakeStore("w2/1"), {.request_id = "c"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_THAT(next->history->tokens, ElementsAre(1, 2));
}

TEST_F(SessionStoreTest, ASessionThatCannotBeReadCanBeReplacedAndClosed) {
  Say(*MakeStore("w0/1"), {.request_id = "a", .start = true}, {1});
  state_->damaged = true;
  auto store = MakeStore("w1/1");
  for (const bool start : {false, true}) {
    EXPECT_EQ(Begin(*store, {.request_id = "b", .start = start}).status().code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(Say(*store, {.request_id = "c", .start = true, .replace = true}, {5}), 1);
  auto other = MakeStore("w2/1");
  EXPECT_TRUE(*Close(*other));
  EXPECT_TRUE(absl::IsFailedPrecondition(Begin(*other, {.request_id = "d"}).status()));
}

TEST_F(SessionStoreTest, AWorkerThatWakesUpLateIsFenced) {
  auto frozen = MakeStore("w0/1");
  auto other = MakeStore("w1/1");
  Say(*frozen, {.request_id = "a", .start = true}, {1});
  const auto late = Begin(*frozen, {.request_id = "b"});
  EXPECT_TRUE(absl::IsAborted(Begin(*other, {.request_id = "c"}).status()));
  Say(*other, {.request_id = "c", .lost_holders = {"w0/1"}}, {2});
  const auto refused = Commit(*frozen, *late, {3});
  EXPECT_TRUE(absl::IsAborted(refused.status()));
  EXPECT_THAT(refused.status().message(), HasSubstr("SESSION_FENCED"));
  EXPECT_EQ(frozen->fenced_commits(), 1u);
  EXPECT_THAT(Begin(*frozen, {.request_id = "d"})->history->tokens, ElementsAre(1, 2));
}

TEST_F(SessionStoreTest, ForksShareTheHistoryAndGoTheirOwnWay) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1, 2, 3});
  const auto fork = [&](std::optional<int64_t> position) {
    Answer<std::pair<std::string, int64_t>> answer;
    store->Fork(kKey, position, answer.Callback());
    return answer.Get();
  };
  EXPECT_EQ(*fork(std::nullopt), std::make_pair(std::string("s~1"), int64_t{3}));
  EXPECT_EQ(*fork(2), std::make_pair(std::string("s~2"), int64_t{2}));
  SessionKey child = kKey;
  child.session_id = "s~2";
  Say(*store, {.request_id = "b"}, {9}, child);
  EXPECT_THAT(Begin(*store, {.request_id = "c"}, child)->history->tokens, ElementsAre(1, 2, 9));
  const auto running = Begin(*store, {.request_id = "d"});
  EXPECT_THAT(running->history->tokens, ElementsAre(1, 2, 3));
  EXPECT_TRUE(absl::IsAborted(fork(std::nullopt).status()));
}

TEST_F(SessionStoreTest, AnExpiredSessionSaysSoAndCanBeStartedAnew) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1, 2});
  clock_.Advance(absl::Minutes(61));
  const auto expired = Begin(*store, {.request_id = "b"});
  EXPECT_TRUE(absl::IsFailedPrecondition(expired.status()));
  EXPECT_THAT(expired.status().message(), HasSubstr("expired"));
  EXPECT_EQ(Say(*store, {.request_id = "c", .start = true}, {5}), 1);
}

TEST_F(SessionStoreTest, WithoutTheJournalOnlyOwnSessionsGoOn) {
  auto store = MakeStore("w0/1");
  auto other = MakeStore("w1/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  EXPECT_TRUE(absl::IsUnavailable(Begin(*other, {.request_id = "x"}).status()));
  EXPECT_TRUE(absl::IsUnavailable(Begin(*store, {.start = true}, {.session_id = "new"}).status()));
  EXPECT_EQ(Say(*store, {.request_id = "b"}, {2}), 2);
  EXPECT_EQ(Say(*store, {.request_id = "c"}, {3}), 3);
  state_->gone = false;
  EXPECT_EQ(Say(*store, {.request_id = "d"}, {4}), 4);
  EXPECT_THAT(Begin(*other, {.request_id = "e"})->history->tokens, ElementsAre(1, 2, 3, 4));
}

TEST_F(SessionStoreTest, WithoutTheJournalATurnGoesOnUnderTheLastClaimThoughThatTurnFailed) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  EXPECT_TRUE(absl::IsOutOfRange(Begin(*store, {.request_id = "b", .position = 999}).status()));
  state_->gone = true;
  Say(*store, {.request_id = "c"}, {2});
  state_->gone = false;
  EXPECT_THAT(Begin(*store, {.request_id = "d"})->history->tokens, ElementsAre(1, 2));
  EXPECT_EQ(store->fenced_commits(), 0u);
}

TEST_F(SessionStoreTest, WithoutTheJournalNoTurnGoesOnFromACopyKnownToBeOld) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  Say(*MakeStore("w1/1"), {.request_id = "b"}, {2});
  state_->damaged = true;
  EXPECT_EQ(Begin(*store, {.request_id = "c"}).status().code(), absl::StatusCode::kDataLoss);
  state_->gone = true;
  EXPECT_TRUE(absl::IsUnavailable(Begin(*store, {.request_id = "d"}).status()));
}

TEST_F(SessionStoreTest, ATurnThatBeginsWhileCommitsWaitDoesNotFenceThem) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, {2});
  state_->gone = false;
  state_->failures = 1;  // the journal is back between catching up and the claim
  const auto turn = Begin(*store, {.request_id = "c"});
  ASSERT_TRUE(turn.ok()) << turn.status();
  EXPECT_THAT(turn->history->tokens, ElementsAre(1, 2));
  EXPECT_EQ(*Commit(*store, *turn, {3}), 3);
  EXPECT_THAT(Begin(*MakeStore("w1/1"), {.request_id = "d"})->history->tokens, ElementsAre(1, 2, 3));
  EXPECT_EQ(store->fenced_commits(), 0u);
}

TEST_F(SessionStoreTest, TurnsThatFailDoNotDeleteASessionWhoseFirstCommitWaits) {
  auto store = MakeStore("w0/1");
  const auto first = Begin(*store, {.request_id = "a", .start = true});
  state_->gone = true;
  EXPECT_EQ(*Commit(*store, *first, {1}), 1);
  state_->gone = false;
  state_->failures = 1;  // each time the journal is back between catching up and the release
  EXPECT_TRUE(absl::IsOutOfRange(Begin(*store, {.request_id = "b", .position = 999}).status()));
  state_->failures = 1;
  store->AbandonTurn(*Begin(*store, {.request_id = "c"}));
  const auto next = Begin(*store, {.request_id = "d"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_THAT(next->history->tokens, ElementsAre(1));
  EXPECT_EQ(store->fenced_commits(), 0u);
}

TEST_F(SessionStoreTest, ASessionEndsBehindTheCommitsThatWait) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, {2});
  const auto failed = Begin(*store, {.request_id = "c"});
  EXPECT_TRUE(absl::IsUnavailable(Commit(*store, *failed, {3}, /*end=*/true).status()));
  state_->gone = false;
  state_->failures = 1;
  const auto last = Begin(*store, {.request_id = "d"});
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_THAT(last->history->tokens, ElementsAre(1, 2));
  const auto ended = Commit(*store, *last, {4}, /*end=*/true);
  EXPECT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(store->fenced_commits(), 0u);
  EXPECT_TRUE(absl::IsFailedPrecondition(Begin(*MakeStore("w1/1"), {.request_id = "e"}).status()));
}

TEST_F(SessionStoreTest, CommitsThatWaitAreDeliveredThoughTasksKeepComing) {
  auto store = MakeStore("w0/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, {2});
  state_->gone = false;
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(absl::Milliseconds(500));
    EXPECT_TRUE(absl::IsFailedPrecondition(Get(*store, {.session_id = "other"}).status()));
  }
  EXPECT_THAT(Begin(*MakeStore("w1/1"), {.request_id = "c"})->history->tokens, ElementsAre(1, 2));
}

TEST_F(SessionStoreTest, CatchingUpStopsAtTheFirstFailure) {
  auto store = MakeStore("w0/1");
  for (const char* id : {"a", "b", "c"}) Say(*store, {.request_id = "1", .start = true}, {1}, {.session_id = id});
  state_->gone = true;
  for (const char* id : {"a", "b", "c"}) Say(*store, {.request_id = "2"}, {2}, {.session_id = id});
  const int before = state_->commits;
  clock_.Advance(absl::Seconds(1));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(absl::IsUnavailable(Get(*store, {.session_id = "other"}).status()));
  EXPECT_EQ(state_->commits, before + 1);
}

TEST_F(SessionStoreTest, ATurnAbandonedWithoutTheJournalFreesTheSessionLater) {
  auto store = MakeStore("w0/1");
  auto other = MakeStore("w1/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  const auto turn = Begin(*store, {.request_id = "b"});
  state_->gone = true;
  store->AbandonTurn(*turn);
  Get(*store).status().IgnoreError();  // the release has failed by now
  state_->gone = false;
  store.reset();
  const auto next = Begin(*other, {.request_id = "c"});
  EXPECT_TRUE(next.ok()) << next.status();
}

TEST_F(SessionStoreTest, CatchingUpNeverOverwritesAnother) {
  auto store = MakeStore("w0/1");
  auto other = MakeStore("w1/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, {2});
  state_->gone = false;
  Say(*other, {.request_id = "c"}, {9});
  EXPECT_THAT(Begin(*store, {.request_id = "d"})->history->tokens, ElementsAre(1, 9));
  EXPECT_EQ(store->fenced_commits(), 1u);
}

TEST_F(SessionStoreTest, PendingCommitsAreBoundedAndTheSessionSaysItIsNotDurable) {
  auto store = MakeStore("w0/1", 1 << 20, /*pending_bytes=*/1000);
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, std::vector<int32_t>(1000, 2));
  Say(*store, {.request_id = "c", .position = 1}, {3});  // would have room
  state_->gone = false;
  EXPECT_FALSE(Get(*store)->durable);
  const auto lost = Begin(*store, {.request_id = "d"});
  EXPECT_TRUE(absl::IsAborted(lost.status())) << lost.status();
  EXPECT_THAT(lost.status().message(), HasSubstr("SESSION_FENCED"));
  EXPECT_THAT(Begin(*store, {.request_id = "e"})->history->tokens, ElementsAre(1));
}

TEST_F(SessionStoreTest, LostTurnsAreNotTakenForAnothersOfTheSameVersion) {
  auto store = MakeStore("w0/1", 1 << 20, /*pending_bytes=*/1000);
  auto other = MakeStore("w1/1");
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, std::vector<int32_t>(1000, 2));
  Say(*store, {.request_id = "c"}, {3});
  state_->gone = false;
  Say(*other, {.request_id = "d"}, {8});
  Say(*other, {.request_id = "e"}, {9});
  const auto lost = Begin(*store, {.request_id = "f"});
  EXPECT_TRUE(absl::IsAborted(lost.status())) << lost.status();
  EXPECT_THAT(lost.status().message(), HasSubstr("SESSION_FENCED"));
  EXPECT_THAT(Begin(*store, {.request_id = "g"})->history->tokens, ElementsAre(1, 8, 9));
}

TEST_F(SessionStoreTest, LostTurnsAreToldThoughTheirCopyLeftTheMemory) {
  auto store = MakeStore("w0/1", /*history_bytes=*/10000, /*pending_bytes=*/1000);
  Say(*store, {.request_id = "a", .start = true}, {1});
  state_->gone = true;
  Say(*store, {.request_id = "b"}, std::vector<int32_t>(1000, 2));
  state_->gone = false;
  Say(*store, {.request_id = "c", .start = true}, std::vector<int32_t>(2000, 7), {.session_id = "large"});
  state_->gone = true;
  EXPECT_TRUE(absl::IsUnavailable(Begin(*store, {.request_id = "d"}).status()));
  state_->gone = false;
  const auto lost = Begin(*store, {.request_id = "e"});
  EXPECT_TRUE(absl::IsAborted(lost.status())) << lost.status();
  EXPECT_THAT(Begin(*store, {.request_id = "f"})->history->tokens, ElementsAre(1));
}

TEST_F(SessionStoreTest, HistoriesBeyondTheMemoryBoundAreLoadedAgain) {
  auto store = MakeStore("w0/1", /*history_bytes=*/10000);
  for (const char* id : {"a", "b", "c"}) {
    Say(*store, {.request_id = id, .start = true}, std::vector<int32_t>(2000, 7), {.session_id = id});
  }
  EXPECT_EQ(store->open_sessions(), 1);
  EXPECT_EQ(Begin(*store, {.request_id = "x"}, {.session_id = "a"})->history->tokens.size(), 2000u);
}

TEST_F(SessionStoreTest, TooManySessionsAreRefused) {
  auto store = MakeStore("w0/1");
  for (const char* id : {"a", "b", "c", "d"}) Say(*store, {.request_id = id, .start = true}, {1}, {.session_id = id});
  const auto refused = Begin(*store, {.start = true}, {.session_id = "e"});
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_EQ(Say(*store, {.request_id = "x"}, {2}, {.session_id = "a"}), 2);
}

TEST_F(SessionStoreTest, ExpiredSessionsMakeRoomForOthers) {
  auto store = MakeStore("w0/1");
  for (const char* id : {"a", "b", "c", "d"}) Say(*store, {.request_id = id, .start = true}, {1}, {.session_id = id});
  const auto running = Begin(*store, {.request_id = "x"}, {.session_id = "a"});
  clock_.Advance(absl::Minutes(61));
  EXPECT_TRUE(Get(*store, {.session_id = "b"}).ok());  // sessions are swept behind it
  Say(*store, {.request_id = "e", .start = true}, {1}, {.session_id = "e"});
  EXPECT_EQ(store->open_sessions(), 2);
  EXPECT_EQ(*Commit(*store, *running, {2}), 2);
  EXPECT_THAT(Begin(*store, {.request_id = "y"}, {.session_id = "b"}).status().message(), HasSubstr("expired"));
}

TEST_F(SessionStoreTest, DestructionFinishesWhatWasAskedFor) {
  Answer<Turn> answer;
  MakeStore("w0/1")->BeginTurn(kKey, {.start = true}, answer.Callback());
  EXPECT_TRUE(answer.Get().ok());
}

}  // namespace
}  // namespace berth::session
