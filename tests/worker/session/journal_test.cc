#include "worker/session/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/worker/session/redis_server.h"
#include "tests/worker/session/requests.h"
#include "worker/session/redis_journal.h"

namespace berth::session {
namespace {

using testing::ClaimBy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kKey;
using testing::kNow;
using testing::TemporaryPath;

History MakeHistory(std::vector<int32_t> tokens, std::vector<Message> messages = {}) {
  return {.tokens = std::move(tokens),
          .messages = std::move(messages),
          .last_request_id = "r",
          .last_output_begin = 1,
          .last_finish_reason = 3};
}

// All implementations keep the same promises.
class JournalTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "sqlite") {
      path_ = TemporaryPath("journal");
      auto opened = OpenSqliteJournal(path_);
      ASSERT_TRUE(opened.ok()) << opened.status();
      journal_ = *std::move(opened);
    } else if (GetParam() == "redis") {
      redis_ = std::make_unique<testing::RedisServer>();
      auto opened = OpenRedisJournal(*ParseRedisUrl(redis_->Url()));
      ASSERT_TRUE(opened.ok()) << opened.status();
      journal_ = *std::move(opened);
    } else {
      journal_ = MakeMemoryJournal();
    }
  }

  uint64_t CommitNew(const History& after, uint64_t from_version, int64_t keep_tokens = 0, int64_t keep_messages = 0) {
    const auto claim = journal_->DoClaim(ClaimBy("w0/1"));
    EXPECT_TRUE(claim.ok()) << claim.status();
    const auto version = journal_->Commit({.key = kKey,
                                           .fence = claim->fence,
                                           .from_version = from_version,
                                           .keep_tokens = keep_tokens,
                                           .keep_messages = keep_messages,
                                           .after = &after,
                                           .now = kNow});
    EXPECT_TRUE(version.ok()) << version.status();
    return version.value_or(0);
  }

  std::string path_;
  std::unique_ptr<testing::RedisServer> redis_;
  std::unique_ptr<Journal> journal_;
};

TEST_P(JournalTest, ACommitIsReadBack) {
  const std::vector<Message> messages = {{.role = "user", .content = std::string("caf\xc3\xa9\0x", 7), .begin = 0, .end = 2},
                                         {.role = "assistant", .content = "yes", .begin = 2, .end = 3, .told = 5, .cut = true}};
  const uint64_t version = CommitNew(MakeHistory({5, 6, 7}, messages), 0);
  EXPECT_GT(version, 0u);
  const auto history = journal_->Load(kKey);
  ASSERT_TRUE(history.ok()) << history.status();
  EXPECT_EQ(history->version, version);
  EXPECT_EQ(history->tokens, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(history->messages, messages);
  EXPECT_EQ(history->last_request_id, "r");
  EXPECT_EQ(history->last_output_begin, 1);
  EXPECT_EQ(history->last_finish_reason, 3);
  EXPECT_EQ(history->last_used, kNow);
}

TEST_P(JournalTest, LaterTurnsAppendAndRewind) {
  const std::vector<Message> first = {{.role = "user", .content = "a", .begin = 0, .end = 2}};
  std::vector<Message> second = first;
  second.push_back({.role = "assistant", .content = "b", .begin = 2, .end = 4});
  const uint64_t version = CommitNew(MakeHistory({1, 2}, first), 0);
  CommitNew(MakeHistory({1, 2, 3, 4}, second), version, 2, 1);
  EXPECT_EQ(journal_->Load(kKey)->tokens, (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(journal_->Load(kKey)->messages, second);
  EXPECT_EQ(CommitNew(MakeHistory({1, 9}, first), version + 1, 1, 1), version + 2);
  EXPECT_EQ(journal_->Load(kKey)->tokens, (std::vector<int32_t>{1, 9}));
  EXPECT_EQ(journal_->Load(kKey)->messages, first);
}

TEST_P(JournalTest, AnOpenClaimOfAnotherWorkerIsBusy) {
  ASSERT_TRUE(journal_->DoClaim(ClaimBy("w0/1", "r1")).ok());
  const auto second = journal_->DoClaim(ClaimBy("w1/1", "r2"));
  EXPECT_TRUE(absl::IsAborted(second.status()));
  EXPECT_THAT(second.status().message(), HasSubstr("SESSION_BUSY: w0/1"));
}

TEST_P(JournalTest, TheSameRequestALostHolderAndANewIncarnationTakeOver) {
  const auto first = journal_->DoClaim(ClaimBy("w0/1", "r1"));
  const auto same_request = journal_->DoClaim(ClaimBy("w1/1", "r1"));
  const auto lost = journal_->DoClaim(ClaimBy("w2/1", "r2", {"w1/1"}));
  const auto restarted = journal_->DoClaim(ClaimBy("w2/2", "r3"));
  ASSERT_TRUE(same_request.ok() && lost.ok() && restarted.ok());
  EXPECT_LT(first->fence, same_request->fence);
  EXPECT_LT(same_request->fence, lost->fence);
  EXPECT_LT(lost->fence, restarted->fence);
}

TEST_P(JournalTest, AFrozenWorkerCannotCommit) {
  const auto frozen = journal_->DoClaim(ClaimBy("w0/1", "r1"));
  const auto other = journal_->DoClaim(ClaimBy("w1/1", "r2", {"w0/1"}));
  const History after = MakeHistory({1});
  const auto committed = journal_->Commit({.key = kKey, .fence = other->fence, .after = &after, .now = kNow});
  ASSERT_TRUE(committed.ok()) << committed.status();
  const History stale = MakeHistory({2});
  for (const uint64_t version : {uint64_t{0}, *committed}) {
    const auto late =
        journal_->Commit({.key = kKey, .fence = frozen->fence, .from_version = version, .after = &stale, .now = kNow});
    EXPECT_TRUE(absl::IsAborted(late.status())) << late.status();
    EXPECT_THAT(late.status().message(), HasSubstr("SESSION_FENCED"));
  }
  EXPECT_EQ(journal_->Load(kKey)->tokens, (std::vector<int32_t>{1}));
}

TEST_P(JournalTest, ACommitFromAnOldVersionIsFenced) {
  CommitNew(MakeHistory({1}), 0);
  const auto claim = journal_->DoClaim(ClaimBy("w0/1"));
  const History after = MakeHistory({2});
  EXPECT_TRUE(absl::IsAborted(journal_->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow}).status()));
}

TEST_P(JournalTest, ReleaseFreesTheClaimAndLeavesNothingBehind) {
  const auto claim = journal_->DoClaim(ClaimBy("w0/1", "r1"));
  ASSERT_TRUE(journal_->Release(kKey, claim->fence).ok());
  EXPECT_TRUE(absl::IsNotFound(journal_->Load(kKey).status()));
  EXPECT_TRUE(journal_->DoClaim(ClaimBy("w1/1", "r2")).ok());
}

TEST_P(JournalTest, AnOldFenceReleasesNothing) {
  const auto old_claim = journal_->DoClaim(ClaimBy("w0/1", "r1"));
  ASSERT_TRUE(journal_->DoClaim(ClaimBy("w1/1", "r2", {"w0/1"})).ok());
  ASSERT_TRUE(journal_->Release(kKey, old_claim->fence).ok());
  EXPECT_TRUE(absl::IsAborted(journal_->DoClaim(ClaimBy("w3/1", "r3")).status()));
}

TEST_P(JournalTest, CloseDeletesUnderTheFence) {
  const uint64_t version = CommitNew(MakeHistory({1}), 0);
  const auto claim = journal_->DoClaim(ClaimBy("w0/1"));
  const auto close = [&](uint64_t fence) {
    return journal_->Commit({.key = kKey, .fence = fence, .from_version = version, .now = kNow}).status();
  };
  EXPECT_TRUE(absl::IsAborted(close(claim->fence - 1)));
  EXPECT_TRUE(close(claim->fence).ok());
  EXPECT_TRUE(absl::IsNotFound(journal_->Load(kKey).status()));
}

TEST_P(JournalTest, ANewSessionOfAClosedOnesNameIsAnother) {
  const auto frozen = journal_->DoClaim(ClaimBy("w9/1", "r9"));
  const auto first = journal_->DoClaim(ClaimBy("w0/1", "r0", {"w9/1"}));
  const History old = MakeHistory({1}), fresh = MakeHistory({2});
  const auto version = journal_->Commit({.key = kKey, .fence = first->fence, .after = &old, .now = kNow});
  const auto last = journal_->DoClaim(ClaimBy("w0/1"));
  ASSERT_TRUE(journal_->Commit({.key = kKey, .fence = last->fence, .from_version = *version, .now = kNow}).ok());
  // Neither the copy that another worker has nor the claim that a frozen one had fits the new session.
  const auto claim = journal_->DoClaim(ClaimBy("w1/1"));
  EXPECT_EQ(claim->version, 0u);
  EXPECT_TRUE(absl::IsAborted(journal_->Commit({.key = kKey, .fence = frozen->fence, .after = &old, .now = kNow}).status()));
  const auto again = journal_->Commit({.key = kKey, .fence = claim->fence, .after = &fresh, .now = kNow});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_GT(*again, *version);
  EXPECT_EQ(journal_->Load(kKey)->version, *again);
  EXPECT_EQ(journal_->Load(kKey)->tokens, fresh.tokens);
}

TEST_P(JournalTest, SweepDropsOldSessionsButNotRunningOnes) {
  CommitNew(MakeHistory({1}), 0);
  SessionKey running = kKey;
  running.session_id = "running";
  ASSERT_TRUE(journal_->DoClaim({.key = running, .holder = "w0/1", .now = kNow}).ok());
  ASSERT_TRUE(journal_->Sweep(kNow).ok());
  EXPECT_TRUE(journal_->Load(kKey).ok());
  ASSERT_TRUE(journal_->Sweep(kNow + absl::Seconds(1)).ok());
  EXPECT_TRUE(absl::IsNotFound(journal_->Load(kKey).status()));
  EXPECT_TRUE(absl::IsAborted(journal_->DoClaim({.key = running, .request_id = "x", .holder = "w1/1", .now = kNow}).status()));
}

TEST_P(JournalTest, TenantsModelsAndOddNamesDoNotMix) {
  CommitNew(MakeHistory({1}), 0);
  for (const SessionKey& other : {SessionKey{"acme2", "m", "s"}, SessionKey{"acme", "m2", "s"}, SessionKey{"acme", "m", "s2"},
                                  SessionKey{"acm", "em", "s"}, SessionKey{"", "acme:m", "s"}}) {
    EXPECT_TRUE(absl::IsNotFound(journal_->Load(other).status())) << other.tenant << "/" << other.model;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, JournalTest, ::testing::Values("memory", "sqlite", "redis"),
                         [](const auto& info) { return info.param; });

TEST(MemoryJournalTest, SessionsUnusedForTheLongestTimeEndBeyondItsBytes) {
  const History after = MakeHistory(std::vector<int32_t>(1000, 7));
  const auto journal = MakeMemoryJournal(/*max_bytes=*/10 * BytesOf(after));
  const auto key = [](int i) { return SessionKey{.session_id = absl::StrCat(i)}; };
  ASSERT_TRUE(journal->DoClaim({.key = key(-1), .holder = "w0/1"}).ok());  // runs all the time
  for (int i = 0; i < 100; ++i) {
    for (const int session : {0, i}) {
      const auto claim = journal->DoClaim({.key = key(session), .holder = "w0/1"});
      ASSERT_TRUE(claim.ok()) << claim.status();
      const CommitRequest commit{
          .key = key(session), .fence = claim->fence, .from_version = claim->version, .after = &after, .now = kNow};
      ASSERT_TRUE(journal->Commit(commit).ok());
    }
  }
  std::vector<int> kept;
  for (int i = 0; i < 100; ++i) {
    if (journal->Load(key(i)).ok()) kept.push_back(i);
  }
  EXPECT_THAT(kept, ElementsAre(0, 92, 93, 94, 95, 96, 97, 98, 99));
  EXPECT_TRUE(absl::IsAborted(journal->DoClaim({.key = key(-1), .request_id = "x", .holder = "w1/1"}).status()));
}

TEST(MemoryJournalTest, TheNewestSessionStaysHoweverLarge) {
  const auto journal = MakeMemoryJournal(/*max_bytes=*/1);
  const auto claim = journal->DoClaim(ClaimBy("w0/1"));
  const History after = MakeHistory({1});
  ASSERT_TRUE(journal->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow}).ok());
  EXPECT_TRUE(journal->Load(kKey).ok());
}

TEST(SqliteJournalTest, TwoWorkersShareAFileAndAReopenedOneHasIt) {
  const std::string path = TemporaryPath("shared");
  auto first = *OpenSqliteJournal(path);
  auto second = *OpenSqliteJournal(path);
  EXPECT_EQ(first->domain(), second->domain());
  const auto claim = first->DoClaim(ClaimBy("w0/1", "r1"));
  EXPECT_TRUE(absl::IsAborted(second->DoClaim(ClaimBy("w1/1", "r2")).status()));
  const History after = MakeHistory({1, 2, 3});
  ASSERT_TRUE(first->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow}).ok());
  EXPECT_EQ(second->DoClaim(ClaimBy("w1/1", "r2"))->version, 1u);
  first.reset();
  second.reset();
  EXPECT_EQ((*OpenSqliteJournal(path))->Load(kKey)->tokens.size(), 3u);
}

TEST(SqliteJournalTest, OnlyItsOwnerMayReadANewFile) {
  const std::string path = TemporaryPath("private");
  const mode_t mask = umask(022);
  const auto journal = OpenSqliteJournal(path);
  umask(mask);
  ASSERT_TRUE(journal.ok()) << journal.status();
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat info {};
    ASSERT_EQ(stat(absl::StrCat(path, suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
}

TEST(SqliteJournalTest, WorkersThatStartTogetherAllOpenANewFile) {
  for (int round = 0; round < 60; ++round) {
    const std::string path = TemporaryPath("together");
    std::vector<std::thread> workers;
    for (int i = 0; i < 8; ++i) {
      workers.emplace_back([&path] {
        const auto journal = OpenSqliteJournal(path);
        EXPECT_TRUE(journal.ok()) << journal.status();
      });
    }
    for (std::thread& worker : workers) worker.join();
  }
}

TEST(SqliteJournalTest, AFileHeldByAnotherTransactionIsUnavailable) {
  const std::string path = TemporaryPath("held");
  auto journal = *OpenSqliteJournal(path);
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto claim = journal->DoClaim(ClaimBy("w0/1"));
  EXPECT_TRUE(absl::IsUnavailable(claim.status()));
  EXPECT_THAT(claim.status().message(), HasSubstr("JOURNAL_UNAVAILABLE"));
  ASSERT_EQ(sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  EXPECT_TRUE(journal->DoClaim(ClaimBy("w0/1")).ok());
}

TEST(SqliteJournalTest, WhatIsNoJournalIsRefusedByName) {
  const std::string path = TemporaryPath("text");
  std::ofstream(path) << std::string(4096, 'x');
  const auto opened = OpenSqliteJournal(path);
  EXPECT_TRUE(absl::IsInvalidArgument(opened.status())) << opened.status();
  EXPECT_THAT(opened.status().message(), HasSubstr(path));
  EXPECT_TRUE(absl::IsUnavailable(OpenSqliteJournal("/nowhere/journal").status()));
}

TEST(SqliteJournalTest, ADamagedRowIsAnError) {
  const std::string path = TemporaryPath("damaged");
  auto journal = *OpenSqliteJournal(path);
  const auto claim = journal->DoClaim(ClaimBy("w0/1"));
  const History after = MakeHistory({1, 2, 3}, {{.role = "user", .content = "a"}});
  ASSERT_TRUE(journal->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow}).ok());
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &other), SQLITE_OK);
  for (const char* damage : {"UPDATE turn SET keep_tokens = 7", "UPDATE turn SET keep_tokens = 0, messages = x'0102'"}) {
    ASSERT_EQ(sqlite3_exec(other, damage, nullptr, nullptr, nullptr), SQLITE_OK);
    EXPECT_EQ(journal->Load(kKey).status().code(), absl::StatusCode::kDataLoss) << damage;
  }
  sqlite3_close(other);
}

}  // namespace
}  // namespace berth::session
