#include "clients/cli/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "clients/cli/ready_line.h"
#include "clients/cli/serve.h"
#include "clients/cli/watchdog_socket.h"

namespace berth::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> AllLines(int descriptor) {
  LineReader reader(descriptor);
  std::vector<std::string> all;
  while (!reader.at_end()) {
    pollfd wait = {descriptor, POLLIN, 0};
    poll(&wait, 1, -1);
    const std::vector<std::string> lines = reader.Read();
    all.insert(all.end(), lines.begin(), lines.end());
  }
  return all;
}

std::unique_ptr<ChildProcess> Shell(const std::string& command) {
  auto child = ChildProcess::Start({.arguments = {"/bin/sh", "-c", command}, .environment = {{"GREETING", "hello"}}});
  EXPECT_TRUE(child.ok()) << child.status();
  return *std::move(child);
}

TEST(ChildProcessTest, DeliversOutputAndErrorsApartWithTheEnvironment) {
  const auto child = Shell("echo $GREETING; echo oops >&2; printf last; cat; exit 5");
  EXPECT_THAT(AllLines(child->output()), ElementsAre("hello", "last"));
  EXPECT_THAT(AllLines(child->errors()), ElementsAre("oops"));
}

TEST(ChildProcessTest, TellsHowItEnded) {
  for (const auto& [command, how] : {std::pair("exit 5", "exit code 5"), std::pair("kill -9 $$", "signal 9")}) {
    const auto child = Shell(command);
    AllLines(child->output());
    // Both pipes are closed just before the end can be waited for.
    siginfo_t info;
    waitid(P_PID, child->pid(), &info, WEXITED | WNOWAIT);
    EXPECT_TRUE(child->Ended());
    EXPECT_EQ(DescribeExit(child->exit_status()), how);
  }
}

TEST(ChildProcessTest, AMissingProgramSaysSo) {
  const auto child = ChildProcess::Start({.arguments = {"/nowhere/program"}});
  ASSERT_TRUE(child.ok());
  EXPECT_THAT(AllLines((*child)->errors()), ElementsAre(HasSubstr("cannot run /nowhere/program: No such file")));
}

TEST(ChildProcessTest, DestructionEndsTheProgram) {
  auto child = Shell("echo up; exec sleep 1000");
  const pid_t pid = child->pid();
  child = nullptr;
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(LineReaderTest, CutsLongLinesAndKeepsEmptyOnes) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const std::string text = "a\n\n" + std::string(5000, 'x');
  ASSERT_EQ(write(pipe_ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  LineReader reader(pipe_ends[0]);
  EXPECT_THAT(reader.Read(), ElementsAre("a", ""));
  ASSERT_EQ(write(pipe_ends[1], "y\n", 2), 2);
  EXPECT_THAT(reader.Read(), ElementsAre(std::string(5000, 'x') + "y"));
  const std::string endless(60000, 'z');
  ASSERT_EQ(write(pipe_ends[1], endless.data(), endless.size()), static_cast<ssize_t>(endless.size()));
  EXPECT_THAT(reader.Read(), ElementsAre());
  ASSERT_EQ(write(pipe_ends[1], endless.data(), 10000), 10000);
  const std::vector<std::string> cut = reader.Read();
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0].size(), 65536u);
  close(pipe_ends[1]);
  EXPECT_THAT(reader.Read(), ElementsAre(std::string(70000 - 65536, 'z')));
  EXPECT_TRUE(reader.at_end());
  close(pipe_ends[0]);
}

TEST(ReadyLineTest, OnlyReadyLinesAreReadyLines) {
  const auto ready = ParseReadyLine(R"({"ready":true,"http_port":1,"grpc_port":2,"more":[3]})");
  ASSERT_TRUE(ready.ok());
  EXPECT_EQ(ready->http_port, 1);
  EXPECT_EQ(ready->grpc_port, 2);
  EXPECT_EQ(ParseReadyLine(FormatReadyLine(*ready))->grpc_port, 2);
  EXPECT_EQ(ParseReadyLine(R"({"ready":true,"grpc_port":"x"})")->grpc_port, 0);
  for (const char* line : {"", "ready", "[true]", "{\"ready\":false}", "{\"ready\":1}", "{\"port\":1}", "{\"ready\":true"}) {
    EXPECT_FALSE(ParseReadyLine(line).ok()) << line;
  }
}

TEST(ServeTest, CoresAreSharedOut) {
  EXPECT_EQ(ShareOfCores(2, 1, 0), 2);
  EXPECT_EQ(ShareOfCores(7, 3, 0), 3);
  EXPECT_EQ(ShareOfCores(7, 3, 1), 2);
  EXPECT_EQ(ShareOfCores(7, 3, 2), 2);
  EXPECT_EQ(ShareOfCores(2, 5, 4), 1);
}

TEST(LoadedLineTest, ComesBackAndNothingElseIsOne) {
  EXPECT_EQ(ParseLoadedLine(FormatLoadedLine(42)).value(), 42);
  EXPECT_FALSE(ParseReadyLine(FormatLoadedLine(100)).ok());
  for (const char* line : {"", "42", "[]", R"({"loaded_percent":"x"})", R"({"ready":true})"}) {
    EXPECT_FALSE(ParseLoadedLine(line).ok()) << line;
  }
}

TEST(WatchdogSocketTest, OnlyItsOwnWordCounts) {
  const auto watchdog = WatchdogSocket::Open();
  ASSERT_TRUE(watchdog.ok()) << watchdog.status();
  const auto environment = (*watchdog)->Environment();
  ASSERT_EQ(environment[0].first, "NOTIFY_SOCKET");
  EXPECT_EQ(environment[1], std::pair(std::string("WATCHDOG_USEC"), std::string("2000000")));
  std::string name = environment[0].second;
  ASSERT_EQ(name[0], '@');
  name[0] = '\0';
  sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, name.data(), name.size());
  const int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
  const auto send = [&](std::string_view text) {
    EXPECT_GT(sendto(sender, text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&address),
                     offsetof(sockaddr_un, sun_path) + name.size()),
              0);
  };
  EXPECT_FALSE((*watchdog)->Take().well);
  send("STATUS=loading");
  EXPECT_FALSE((*watchdog)->Take().well);
  send("WATCHDOG=1");
  send("WATCHDOG=1");
  EXPECT_TRUE((*watchdog)->Take().well);
  EXPECT_FALSE((*watchdog)->Take().well);
  EXPECT_EQ((*watchdog)->Take().loaded_percent, std::nullopt);
  send("STATUS=loading weights: 41 %\nX_BERTH_LOADED_PERCENT=41");
  send("STATUS=loading weights: 42 %\nX_BERTH_LOADED_PERCENT=42");
  const WatchdogSocket::Heard heard = (*watchdog)->Take();
  EXPECT_EQ(heard.loaded_percent, 42);
  EXPECT_FALSE(heard.well);
  for (const std::string_view nonsense : {"X_BERTH_LOADED_PERCENT=", "X_BERTH_LOADED_PERCENT=much", "LOADED_PERCENT=3"}) {
    send(nonsense);
    EXPECT_EQ((*watchdog)->Take().loaded_percent, std::nullopt) << nonsense;
  }
  close(sender);
}

}  // namespace
}  // namespace berth::cli
