#include "clients/cli/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/clients/cli/fake_server.h"

namespace berth::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Contents(const FakeServer& server) {
  std::vector<std::string> contents;
  for (const auto& spec : server.specs) contents.push_back(spec.prompt().chat().messages(0).content());
  return contents;
}

std::string RunChat(FakeServer& server, const std::string& typed, absl::Status* last = nullptr) {
  const auto client = server.Client();
  Conversation conversation(*client, {});
  std::istringstream in(typed);
  std::ostringstream out;
  const absl::Status status = Chat(conversation, LinesOf(in, out), out, out);
  if (last != nullptr) *last = status;
  return out.str();
}

TEST(ChatTest, ADoubleEnterEndsAnInput) {
  FakeServer server;
  EXPECT_EQ(RunChat(server, "one\ntwo\n\nthree\n\nexit\nnever\n\n"),
            "\ndouble enter to end input >>> one\ntwo heard\n"
            "\ndouble enter to end input >>> three heard\n"
            "\ndouble enter to end input >>> \n");
  EXPECT_THAT(Contents(server), ElementsAre("one\ntwo", "three"));
  EXPECT_EQ(server.specs[0].session_id(), server.specs[1].session_id());
}

TEST(ChatTest, EmptyLinesAreNoInputAndTheEndOfTheInputSendsWhatIsThere) {
  FakeServer server;
  RunChat(server, "\n\n\nhello");
  EXPECT_THAT(Contents(server), ElementsAre("hello"));
}

TEST(ChatTest, EndClosesTheSessionAndExitTheLast) {
  FakeServer server;
  EXPECT_THAT(RunChat(server, "a\n\nend\nb\n\nexit\n"), HasSubstr("the session is closed"));
  ASSERT_EQ(server.specs.size(), 2u);
  EXPECT_THAT(server.closed, ElementsAre(server.specs[0].session_id(), server.specs[1].session_id()));
  EXPECT_NE(server.specs[0].session_id(), server.specs[1].session_id());
}

TEST(ChatTest, CommandsWithinAnInputAreText) {
  FakeServer server;
  RunChat(server, "the\nend\n\nexit\n");
  EXPECT_THAT(Contents(server), ElementsAre("the\nend"));
}

TEST(ChatTest, ImagesAreRefusedAndNotSent) {
  FakeServer server;
  EXPECT_THAT(RunChat(server, "/image cat.png\nhello\n\n"),
              HasSubstr("error: /image: no model that Berth serves takes images\n"));
  EXPECT_THAT(Contents(server), ElementsAre("hello"));
}

TEST(ChatTest, WhatIsNotUtf8IsNotSent) {
  FakeServer server;
  EXPECT_THAT(RunChat(server, "caf\xe9\n\nna\xc3\xafve\n\n"), HasSubstr("error: the input is not UTF-8\n"));
  EXPECT_THAT(Contents(server), ElementsAre("na\xc3\xafve"));
}

TEST(ChatTest, AnErrorIsShownAndTheChatGoesOn) {
  FakeServer server;
  server.next_status = absl::InvalidArgumentError("too long");
  absl::Status last;
  const std::string shown = RunChat(server, "a\n\nb\n\n", &last);
  EXPECT_EQ(last, absl::InvalidArgumentError("too long"));
  EXPECT_THAT(shown, HasSubstr("error: too long\n"));
  EXPECT_THAT(shown, HasSubstr("b heard\n"));
}

}  // namespace
}  // namespace berth::cli
