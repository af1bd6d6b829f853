#include "worker/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "grpcpp/completion_queue.h"

namespace berth::worker {
namespace {

// A supervisor's socket in the abstract namespace.
class Supervisor {
 public:
  Supervisor() : descriptor_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = offsetof(sockaddr_un, sun_path);
    EXPECT_EQ(bind(descriptor_, reinterpret_cast<sockaddr*>(&address), length), 0);
    length = sizeof(address);
    getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &length);
    name_ = "@" + std::string(address.sun_path + 1, length - offsetof(sockaddr_un, sun_path) - 1);
  }
  ~Supervisor() { close(descriptor_); }

  const std::string& name() const { return name_; }
  std::string Hear() {
    char buffer[100];
    const ssize_t count = recv(descriptor_, buffer, sizeof(buffer), 0);
    return std::string(buffer, count > 0 ? count : 0);
  }

 private:
  const int descriptor_;
  std::string name_;
};

TEST(WatchdogTest, SpeaksAgainAndAgainFromTheShard) {
  Supervisor supervisor;
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  const auto watchdog = Watchdog::Make({.socket = supervisor.name(), .period = absl::Milliseconds(1)}, shard);
  ASSERT_TRUE(watchdog.ok()) << watchdog.status();
  shard.Start();
  shard.Post([&] { (*watchdog)->Start(); });
  EXPECT_EQ(supervisor.Hear(), "READY=1");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(supervisor.Hear(), "WATCHDOG=1");
  shard.Stop();
  (*watchdog)->Say("STOPPING=1");
  std::string last;
  while (last != "STOPPING=1") last = supervisor.Hear();
}

TEST(NotifySocketTest, TellsPeopleAndProgramsWhatIsLoaded) {
  Supervisor supervisor;
  const auto socket = NotifySocket::Open(supervisor.name());
  ASSERT_TRUE(socket.ok()) << socket.status();
  (*socket)->SayLoaded(42);
  EXPECT_EQ(supervisor.Hear(), "STATUS=loading weights: 42 %\nX_BERTH_LOADED_PERCENT=42");
}

TEST(WatchdogTest, ASupervisorThatIsGoneDoesNoHarm) {
  auto supervisor = std::make_unique<Supervisor>();
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  const auto watchdog = Watchdog::Make({.socket = supervisor->name(), .period = absl::Milliseconds(1)}, shard);
  ASSERT_TRUE(watchdog.ok());
  supervisor = nullptr;
  shard.Start();
  base::Notification spoke;
  shard.Post([&] {
    (*watchdog)->Start();
    spoke.Notify();
  });
  spoke.Wait();
  shard.Stop();
}

TEST(WatchdogTest, NamesABadAddress) {
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  for (const std::string& socket : {std::string("@"), std::string("relative"), "/" + std::string(200, 'x')}) {
    const auto watchdog = Watchdog::Make({.socket = socket}, shard);
    EXPECT_EQ(watchdog.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(watchdog.status().message()), testing::HasSubstr("NOTIFY_SOCKET is \"" + socket));
  }
  shard.Start();
  shard.Stop();
}

}  // namespace
}  // namespace berth::worker
