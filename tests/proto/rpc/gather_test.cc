#include "proto/rpc/gather.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "gtest/gtest.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/listen.h"
#include "proto/rpc/server.h"

namespace berth::rpc {
namespace {

using boost::asio::ip::tcp;
using v1::InferenceService;

// Two ends of a connection.
class GatherTest : public testing::Test {
 protected:
  GatherTest() {
    tcp::acceptor acceptor(context_);
    EXPECT_TRUE(Listen(acceptor, "localhost", 0).ok());
    caller_.connect(acceptor.local_endpoint());
    acceptor.accept(server_);
    server_.set_option(tcp::no_delay(true));
    caller_.non_blocking(true);
  }
  void Write() {
    gather_.BeforeWrite(server_.native_handle());
    ASSERT_EQ(send(server_.native_handle(), "m", 1, 0), 1);
  }
  // Messages that have arrived since it was last asked.
  size_t Arrived() {
    char buffer[256];
    boost::system::error_code none;
    return caller_.read_some(boost::asio::buffer(buffer), none);
  }

  boost::asio::io_context context_;
  tcp::socket caller_{context_}, server_{context_};
  Gather gather_;
};

TEST_F(GatherTest, TheFirstOfATurnLeavesAtOnceAndTheOthersAtItsEnd) {
  for (int turn = 0; turn < 2; ++turn) {
    for (int i = 0; i < 5; ++i) Write();
    EXPECT_EQ(Arrived(), 1u);
    gather_.EndTurn();
    EXPECT_EQ(Arrived(), 4u);
  }
}

TEST_F(GatherTest, ManyDoNotWaitForTheLast) {
  for (int i = 0; i < 2 * Gather::kMostHeld; ++i) Write();
  EXPECT_EQ(Arrived(), 1u + Gather::kMostHeld);
  gather_.EndTurn();
  EXPECT_EQ(Arrived(), Gather::kMostHeld - 1u);
}

TEST_F(GatherTest, NoneWaitForWhatIsWrittenToOtherSockets) {
  for (int i = 0; i < 5; ++i) Write();
  EXPECT_EQ(Arrived(), 1u);
  gather_.BeforeWrite(caller_.native_handle());
  EXPECT_EQ(Arrived(), 4u);
}

TEST_F(GatherTest, KnowsTheLastConnectionOfANumber) {
  EXPECT_EQ(gather_.SocketOf("ipv4:127.0.0.1:1"), -1);
  gather_.Opened("ipv4:127.0.0.1:1", 7);
  gather_.Opened("ipv4:127.0.0.1:2", 8);
  EXPECT_EQ(gather_.SocketOf("ipv4:127.0.0.1:1"), 7);
  gather_.Opened("ipv4:127.0.0.1:3", 7);
  EXPECT_EQ(gather_.SocketOf("ipv4:127.0.0.1:1"), -1);
  EXPECT_EQ(gather_.SocketOf("ipv4:127.0.0.1:3"), 7);
  gather_.Opened("ipv4:127.0.0.1:3", 9);
  gather_.Opened("ipv4:127.0.0.1:4", 7);
  EXPECT_EQ(gather_.SocketOf("ipv4:127.0.0.1:3"), 9) << "it has come back over another socket";
  gather_.BeforeWrite(-1);
  gather_.EndTurn();
}

bool HoldsBack(int socket) {
  int on = -1;
  socklen_t size = sizeof(on);
  EXPECT_EQ(getsockopt(socket, IPPROTO_TCP, TCP_CORK, &on, &size), 0);
  return on != 0;
}

// The messages of a turn to the calls of one connection.
void ExpectGathered(const std::string& host) {
  using Call = ServerStreamCall<v1::StreamGenerateRequest, v1::StreamGenerateResponse>;
  constexpr int kCalls = 64;
  InferenceService::AsyncService service;
  Server server({.host = host});
  server.Register(service);
  std::vector<std::shared_ptr<Call>> calls;
  base::Notification open, all, ended;
  server.AddServerStream(service, &InferenceService::AsyncService::RequestStreamGenerate, [&](std::shared_ptr<Call> call) {
    calls.push_back(std::move(call));
    if (calls.size() == kCalls) open.Notify();
  });
  if (absl::Status status = server.Start(); !status.ok()) GTEST_SKIP() << status;
  Shard client(std::make_unique<grpc::CompletionQueue>());
  client.Start();
  const std::string address = absl::StrCat(host == "::1" ? "[::1]" : host, ":", server.port());
  InferenceService::Stub stub(MakeChannel(address, grpc::InsecureChannelCredentials()));
  int messages = 0, done = 0;
  client.Post([&] {
    for (int i = 0; i < kCalls; ++i) {
      CallServerStream(
          client, stub, &InferenceService::Stub::PrepareAsyncStreamGenerate, v1::StreamGenerateRequest(), {},
          [&](v1::StreamGenerateResponse&) {
            if (++messages == kCalls) all.Notify();
          },
          [&](const absl::Status&) {
            if (++done == kCalls) ended.Notify();
          });
    }
  });
  open.Wait();
  server.shard().Post([&] {
    const int socket = server.shard().gather().SocketOf(calls.front()->context().peer());
    ASSERT_GE(socket, 0) << calls.front()->context().peer();
    for (const auto& call : calls) call->Write({});
    EXPECT_TRUE(HoldsBack(socket));
    server.shard().Post([socket] { EXPECT_FALSE(HoldsBack(socket)) << "in the next turn"; });
  });
  all.Wait();
  server.shard().Post([&] {
    for (const auto& call : calls) call->Finish(absl::OkStatus());
    calls.clear();
  });
  ended.Wait();
  server.Shutdown(absl::ZeroDuration());
  client.Stop();
}

TEST(GatherCallTest, MessagesOfATurnLeaveTogether) { ExpectGathered("127.0.0.1"); }
TEST(GatherCallTest, AlsoOverIpv6) { ExpectGathered("::1"); }

}  // namespace
}  // namespace berth::rpc
