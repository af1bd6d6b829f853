#include "proto/rpc/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "grpcpp/client_context.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/health.h"
#include "proto/rpc/server.h"
#include "tests/support/certificates.h"

namespace berth::rpc {
namespace {

using ::testing::HasSubstr;

class TlsTest : public ::testing::Test {
 protected:
  static const berth::testing::TestAuthority& Authority() {
    static const auto* const authority = [] {
      auto* made = new berth::testing::TestAuthority();
      for (const char* name : {"server", "client"}) made->Issue(name);
      return made;
    }();
    return *authority;
  }
  static TlsOptions Of(const std::string& name) {
    return {.cert_file = Authority().cert(name), .key_file = Authority().key(name), .ca_file = Authority().ca()};
  }

  void Serve(const TlsOptions& tls) {
    server_ = std::make_unique<Server>(ServerOptions{.tls = tls});
    health_.AddTo(*server_);
    const absl::Status status = server_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(absl::ZeroDuration());
  }
  // Over a connection of its own.
  grpc::Status Call(const TlsOptions& tls) {
    const auto credentials = MakeChannelCredentials(tls);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    const auto stub = grpc::health::v1::Health::NewStub(MakeChannel(absl::StrCat("127.0.0.1:", server_->port()), *credentials));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    grpc::health::v1::HealthCheckRequest request;
    request.set_service("liveness");
    grpc::health::v1::HealthCheckResponse response;
    return stub->Check(&context, request, &response);
  }

  HealthService health_;
  std::unique_ptr<Server> server_;
};

TEST_F(TlsTest, BothSidesShowCertificatesOfTheirAuthority) {
  Serve(Of("server"));
  EXPECT_TRUE(Call(Of("client")).ok());
  EXPECT_EQ(Call({.ca_file = Authority().ca()}).error_code(), grpc::StatusCode::UNAVAILABLE) << "without a certificate";
  EXPECT_FALSE(Call({}).ok()) << "in plaintext";
  const berth::testing::TestAuthority other;
  other.Issue("client");
  EXPECT_FALSE(Call({.cert_file = other.cert("client"), .key_file = other.key("client"), .ca_file = Authority().ca()}).ok())
      << "of another authority";
  EXPECT_FALSE(Call({.cert_file = Of("client").cert_file, .key_file = Of("client").key_file, .ca_file = other.ca()}).ok())
      << "to a server of another authority";
}

TEST_F(TlsTest, WithoutAnAuthorityAServerTakesEveryCaller) {
  TlsOptions tls = Of("server");
  tls.ca_file.clear();
  Serve(tls);
  EXPECT_TRUE(Call({.ca_file = Authority().ca()}).ok());
}

TEST_F(TlsTest, NewConnectionsUseTheFilesAsTheyAreNow) {
  namespace fs = std::filesystem;
  const berth::testing::TempDir folder;
  const berth::testing::TestAuthority next;
  next.Issue("server");
  // A link to the folder that holds the pair, so that both change at once.
  const auto put = [&](const std::string& version, const std::string& cert, const std::string& key) {
    fs::create_directory(folder.PathOf(version));
    fs::copy(cert, folder.PathOf(version + "/cert"));
    fs::copy(key, folder.PathOf(version + "/key"));
    fs::create_symlink(version, folder.PathOf("next"));
    fs::rename(folder.PathOf("next"), folder.PathOf("now"));
  };
  put("1", Authority().cert("server"), Authority().key("server"));
  Serve({.cert_file = folder.PathOf("now/cert"), .key_file = folder.PathOf("now/key")});
  EXPECT_TRUE(Call({.ca_file = Authority().ca()}).ok());
  EXPECT_FALSE(Call({.ca_file = next.ca()}).ok());
  put("2", next.cert("server"), next.key("server"));
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!Call({.ca_file = next.ca()}).ok()) ASSERT_LT(absl::Now(), deadline);
  EXPECT_FALSE(Call({.ca_file = Authority().ca()}).ok());
}

TEST_F(TlsTest, FilesThatAreNoGoodAreNamed) {
  const berth::testing::TempDir folder;
  const std::string bad = folder.PathOf("bad");
  berth::testing::WriteFile(bad, "hello");
  const TlsOptions good = Of("server");
  for (const auto& [tls, want] : std::vector<std::pair<TlsOptions, std::string>>{
           {{.cert_file = good.cert_file}, "both a certificate file and a key file"},
           {{.key_file = good.key_file}, "both a certificate file and a key file"},
           {{.ca_file = good.ca_file}, "both a certificate file and a key file"},
           {{.cert_file = "/no/cert", .key_file = good.key_file}, "cannot read /no/cert: No such file"},
           {{.cert_file = bad, .key_file = good.key_file}, bad + " holds no certificate in PEM"},
           {{.cert_file = good.cert_file, .key_file = good.cert_file}, good.cert_file + " holds no private key"},
           {{.cert_file = good.cert_file, .key_file = good.key_file, .ca_file = bad}, bad + " holds no certificate"},
           {{.cert_file = good.cert_file, .key_file = Of("client").key_file},
            "the key in " + Of("client").key_file + " does not belong to the certificate in " + good.cert_file}}) {
    const absl::Status status = CheckTlsFiles(tls, /*server=*/true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(want));
  }
  const auto expiry = CheckTlsFiles(good, /*server=*/true);
  ASSERT_TRUE(expiry.ok()) << expiry.status();
  EXPECT_GT(*expiry, absl::Now() + absl::Hours(24 * 29));
  EXPECT_LT(*expiry, absl::Now() + absl::Hours(24 * 31));
}

}  // namespace
}  // namespace berth::rpc
