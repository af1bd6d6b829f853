#include "worker/session/redis_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/worker/session/redis_server.h"
#include "tests/worker/session/requests.h"

namespace berth::session {
namespace {

using testing::ClaimBy;
using ::testing::HasSubstr;
using testing::kKey;
using testing::kNow;
using ::testing::Not;
using testing::RedisServer;

// One that is asked again at once after it was gone.
std::unique_ptr<Journal> Open(const std::string& url) {
  RedisOptions options = *ParseRedisUrl(url);
  options.retry_after = absl::ZeroDuration();
  auto opened = OpenRedisJournal(options);
  EXPECT_TRUE(opened.ok()) << opened.status();
  return *std::move(opened);
}

TEST(RedisUrlTest, PartsHaveDefaults) {
  const auto plain = ParseRedisUrl("redis://cache");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->Name(), "redis://cache:6379/0");
  EXPECT_EQ(plain->password, "");
  const auto whole = ParseRedisUrl("rediss://me:p%40ss:w%2Frd@[::1]:7000/3");
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->Name(), "rediss://[::1]:7000/3");
  EXPECT_EQ(whole->user, "me");
  EXPECT_EQ(whole->password, "p@ss:w/rd");
  EXPECT_EQ(ParseRedisUrl("redis://:secret@cache/")->password, "secret");
}

TEST(RedisUrlTest, BadOnesAreNamedWithoutThePassword) {
  for (const char* url : {"redis:cache", "redis://", "redis://:secret@", "redis://:secret@cache:0", "redis://:secret@cache:x",
                          "redis://secret@cache", "redis://:secret@cache/x", "redis://:secret@cache/-1", "redis://[::1"}) {
    const auto parsed = ParseRedisUrl(url);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << url;
    EXPECT_THAT(parsed.status().message(), Not(HasSubstr("secret"))) << url;
  }
}

TEST(RedisJournalTest, WorkersShareAServerAndEachDatabaseIsOneJournal) {
  RedisServer server;
  const auto first = Open(server.Url()), second = Open(server.Url()), other = Open(server.Url() + "/1");
  EXPECT_EQ(first->domain(), second->domain());
  EXPECT_NE(first->domain(), other->domain());
  const auto claim = first->DoClaim(ClaimBy("w0/1", "r1"));
  EXPECT_TRUE(absl::IsAborted(second->DoClaim(ClaimBy("w1/1", "r2")).status()));
  EXPECT_TRUE(other->DoClaim(ClaimBy("w1/1", "r2")).ok());
  const History after{.tokens = {1, 2, 3}};
  const auto version = first->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow});
  EXPECT_EQ(second->DoClaim(ClaimBy("w1/1", "r2"))->version, *version);
  EXPECT_EQ(second->Load(kKey)->tokens, after.tokens);
}

TEST(RedisJournalTest, APasswordIsDemandedAndNeverTold) {
  RedisServer server({"--requirepass", "s3cret/@"});
  EXPECT_TRUE(Open(server.Url(":s3cret%2F%40@"))->DoClaim(ClaimBy("w0/1")).ok());
  EXPECT_TRUE(Open(server.Url("default:s3cret%2F%40@"))->DoClaim(ClaimBy("w0/1")).ok());
  for (const auto& [credentials, reason] : {std::pair("", "NOAUTH"), {":wr0ng@", "WRONGPASS"}}) {
    const auto refused = OpenRedisJournal(*ParseRedisUrl(server.Url(credentials)));
    EXPECT_TRUE(absl::IsUnavailable(refused.status()));
    EXPECT_THAT(refused.status().message(), HasSubstr(reason));
    EXPECT_THAT(refused.status().message(), HasSubstr(absl::StrCat("127.0.0.1:", server.port())));
    EXPECT_THAT(refused.status().message(), Not(HasSubstr("wr0ng")));
  }
}

TEST(RedisJournalTest, AServerThatIsNotThereIsNamed) {
  std::string url;
  {
    RedisServer server;
    url = server.Url();
  }
  const auto refused = OpenRedisJournal(*ParseRedisUrl(url));
  EXPECT_TRUE(absl::IsUnavailable(refused.status()));
  EXPECT_THAT(refused.status().message(), HasSubstr(url));
  EXPECT_THAT(refused.status().message(), HasSubstr("refused"));
}

TEST(RedisJournalTest, AServerThatDiedIsUnavailableUntilItIsBack) {
  RedisServer server;
  const auto journal = Open(server.Url());
  const auto before = journal->DoClaim(ClaimBy("w0/1"));
  server.Kill();
  for (int i = 0; i < 2; ++i) {
    const auto gone = journal->DoClaim(ClaimBy("w0/1"));
    EXPECT_TRUE(absl::IsUnavailable(gone.status())) << gone.status();
    EXPECT_THAT(gone.status().message(), HasSubstr("JOURNAL_UNAVAILABLE"));
  }
  server.Start();
  // It has forgotten all, and yet no fence comes twice.
  const auto after = journal->DoClaim(ClaimBy("w0/1"));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_GT(after->fence, before->fence);
}

TEST(RedisJournalTest, WhatAFrozenServerGotTooLateHasNoEffect) {
  RedisServer server;
  const auto journal = Open(server.Url());
  server.Freeze();
  EXPECT_TRUE(absl::IsUnavailable(journal->DoClaim(ClaimBy("w0/1", "r1")).status()));
  server.Thaw();
  // Had the first claim come through, the session were busy.
  const auto other = Open(server.Url());
  const auto claim = other->DoClaim(ClaimBy("w1/1", "r2"));
  ASSERT_TRUE(claim.ok()) << claim.status();
  server.Freeze();
  EXPECT_TRUE(absl::IsUnavailable(other->Release(kKey, claim->fence)));
  server.Thaw();
  EXPECT_TRUE(absl::IsAborted(Open(server.Url())->DoClaim(ClaimBy("w0/1", "r1")).status()));
}

TEST(RedisJournalTest, ACommitWhoseAnswerWasLostIsMadeOnce) {
  RedisServer server;
  const auto journal = Open(server.Url());
  const auto claim = journal->DoClaim(ClaimBy("w0/1"));
  const History after{.tokens = {1, 2}};
  const CommitRequest commit{.key = kKey, .fence = claim->fence, .after = &after, .now = kNow};
  const auto first = journal->Commit(commit), again = journal->Commit(commit);
  ASSERT_TRUE(first.ok() && again.ok()) << again.status();
  EXPECT_EQ(*first, *again);
  EXPECT_EQ(journal->Load(kKey)->tokens, after.tokens);
}

// A CA with a server's certificate for 127.0.0.1 and a client's.
class RedisTlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    folder_ = absl::StrCat(::testing::TempDir(), "/berth_tls_", getpid());
    std::filesystem::create_directories(folder_);
    Make("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout ca.key -out ca.pem -days 2");
    for (const char* name : {"server", "client"}) {
      Make(absl::StrCat("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=", name,
                        " -addext subjectAltName=IP:127.0.0.1 -keyout ", name, ".key -out ", name, ".csr"));
      Make(absl::StrCat("x509 -req -in ", name, ".csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 2 ",
                        "-out ", name, ".pem"));
    }
    server_ = std::make_unique<RedisServer>(
        std::vector<std::string>{"--tls-cert-file", File("server.pem"), "--tls-key-file", File("server.key"),
                                 "--tls-ca-cert-file", File("ca.pem"), "--requirepass", "secret"},
        /*tls=*/true);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Make(const std::string& arguments) {
    ASSERT_EQ(std::system(absl::StrCat("cd ", folder_, " && openssl ", arguments, " 2>/dev/null").c_str()), 0) << arguments;
  }
  std::string File(const std::string& name) const { return absl::StrCat(folder_, "/", name); }
  RedisOptions Options(const std::string& credentials = ":secret@") const {
    RedisOptions options = *ParseRedisUrl(server_->Url(credentials));
    options.ca_file = File("ca.pem");
    options.cert_file = File("client.pem");
    options.key_file = File("client.key");
    return options;
  }

  std::string folder_;
  std::unique_ptr<RedisServer> server_;
};

TEST_F(RedisTlsTest, ServesWithCertificatesOfBothSides) {
  const auto opened = OpenRedisJournal(Options());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto claim = (*opened)->DoClaim(ClaimBy("w0/1"));
  ASSERT_TRUE(claim.ok()) << claim.status();
  const History after{.tokens = std::vector<int32_t>(100000, 7)};
  const auto version = (*opened)->Commit({.key = kKey, .fence = claim->fence, .after = &after, .now = kNow});
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ((*opened)->Load(kKey)->tokens, after.tokens);
}

TEST_F(RedisTlsTest, AServerOfAnotherCaOrNameIsNotTrusted) {
  RedisOptions system_cas = Options();
  system_cas.ca_file.clear();
  EXPECT_THAT(OpenRedisJournal(system_cas).status().message(), HasSubstr("certificate"));
  RedisOptions other_name = Options();
  other_name.host = "localhost";
  EXPECT_THAT(OpenRedisJournal(other_name).status().message(), HasSubstr("hostname mismatch"));
}

TEST_F(RedisTlsTest, MissingFilesAndCertificatesAreClearErrors) {
  RedisOptions no_file = Options();
  no_file.ca_file = File("gone.pem");
  EXPECT_THAT(OpenRedisJournal(no_file).status().message(), HasSubstr("gone.pem"));
  RedisOptions wrong_key = Options();
  wrong_key.key_file = File("server.key");
  EXPECT_THAT(OpenRedisJournal(wrong_key).status().message(), HasSubstr("server.key"));
  RedisOptions no_certificate = Options();
  no_certificate.cert_file.clear();
  EXPECT_TRUE(absl::IsUnavailable(OpenRedisJournal(no_certificate).status()));
  RedisOptions plain = Options();
  plain.tls = false;
  EXPECT_TRUE(absl::IsUnavailable(OpenRedisJournal(plain).status()));
}

}  // namespace
}  // namespace berth::session
