#include "gateway/routing/rendezvous.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace berth::routing {
namespace {

constexpr int kSessions = 20000;

std::vector<uint64_t> Hashes(int workers) {
  std::vector<uint64_t> hashes;
  for (int i = 0; i < workers; ++i) hashes.push_back(WorkerHash("worker-" + std::to_string(i)));
  return hashes;
}

uint64_t Key(int session) { return SessionKey("tenant", "session-" + std::to_string(session)); }

v1::Prompt Chat(std::vector<std::pair<std::string, std::string>> messages) {
  v1::Prompt prompt;
  for (auto& [role, content] : messages) {
    v1::ChatMessage& message = *prompt.mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  }
  return prompt;
}

TEST(RendezvousTest, SpreadsSessionsEvenly) {
  const std::vector<uint64_t> hashes = Hashes(8);
  std::map<int, int> counts;
  for (int s = 0; s < kSessions; ++s) ++counts[RankWorkers(Key(s), hashes).front()];
  ASSERT_EQ(counts.size(), 8u);
  for (const auto& [worker, count] : counts) EXPECT_NEAR(count, kSessions / 8, kSessions / 8 * 0.1) << worker;
}

TEST(RendezvousTest, SecondRankSpreadsTheSessionsOfALostWorker) {
  const std::vector<uint64_t> hashes = Hashes(5);
  std::map<int, int> seconds;
  int total = 0;
  for (int s = 0; s < kSessions; ++s) {
    const std::vector<int> order = RankWorkers(Key(s), hashes);
    if (order[0] != 2) continue;
    ++seconds[order[1]];
    ++total;
  }
  ASSERT_EQ(seconds.size(), 4u);
  for (const auto& [worker, count] : seconds) EXPECT_NEAR(count, total / 4, total / 4 * 0.15) << worker;
}

TEST(RendezvousTest, OrderOfDiscoveryDoesNotMatter) {
  const std::vector<uint64_t> hashes = Hashes(6);
  std::vector<uint64_t> reversed(hashes.rbegin(), hashes.rend());
  for (int s = 0; s < 1000; ++s) {
    const std::vector<int> a = RankWorkers(Key(s), hashes), b = RankWorkers(Key(s), reversed);
    for (int rank = 0; rank < 6; ++rank) ASSERT_EQ(hashes[a[rank]], reversed[b[rank]]);
  }
}

TEST(RendezvousTest, RemovingAWorkerMovesOnlyItsSessions) {
  const std::vector<uint64_t> hashes = Hashes(8);
  const uint64_t removed = hashes[3];
  std::vector<uint64_t> rest = hashes;
  rest.erase(rest.begin() + 3);
  int moved = 0;
  for (int s = 0; s < kSessions; ++s) {
    std::vector<uint64_t> before, after;
    for (int i : RankWorkers(Key(s), hashes)) before.push_back(hashes[i]);
    for (int i : RankWorkers(Key(s), rest)) after.push_back(rest[i]);
    moved += before.front() != after.front();
    before.erase(std::find(before.begin(), before.end(), removed));
    ASSERT_EQ(before, after) << "session " << s;
  }
  EXPECT_NEAR(moved, kSessions / 8, kSessions / 8 * 0.1);
}

TEST(SessionKeyTest, AForkLandsWithItsParent) {
  EXPECT_EQ(SessionKey("t", "parent"), SessionKey("t", "parent~1"));
  EXPECT_EQ(SessionKey("t", "parent"), SessionKey("t", "parent~1~2"));
  EXPECT_NE(SessionKey("t", "parent"), SessionKey("t", "parent1"));
}

TEST(SessionKeyTest, TenantsAreApart) {
  EXPECT_NE(SessionKey("a", "s"), SessionKey("b", "s"));
  EXPECT_NE(SessionKey("ab", "c"), SessionKey("a", "bc"));
}

TEST(PrefixKeyTest, FollowsTheHeadOfTheConversation) {
  const auto head = PrefixKey("m", "t", Chat({{"system", "be brief"}, {"user", "hello"}}));
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head,
            PrefixKey("m", "t", Chat({{"system", "be brief"}, {"user", "hello"}, {"assistant", "hi"}, {"user", "more"}})));
  EXPECT_NE(head, PrefixKey("m", "t", Chat({{"system", "be brief"}, {"user", "goodbye"}})));
  EXPECT_NE(head, PrefixKey("m", "t", Chat({{"system", "be long"}, {"user", "hello"}})));
  EXPECT_NE(head, PrefixKey("m", "t", Chat({{"user", "hello"}})));
  EXPECT_NE(head, PrefixKey("other", "t", Chat({{"system", "be brief"}, {"user", "hello"}})));
  EXPECT_NE(head, PrefixKey("m", "other", Chat({{"system", "be brief"}, {"user", "hello"}})));
  EXPECT_NE(PrefixKey("m", "t", Chat({{"system", "x"}})), PrefixKey("m", "t", Chat({{"user", "x"}})));
}

TEST(PrefixKeyTest, OtherPromptsHaveNone) {
  v1::Prompt text;
  text.set_text("once upon a time");
  EXPECT_FALSE(PrefixKey("m", "t", text).has_value());
  EXPECT_FALSE(PrefixKey("m", "t", v1::Prompt()).has_value());
}

}  // namespace
}  // namespace berth::routing
