#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace berth::testing {

// A real redis-server on a free port of loopback, without persistence. Ends with the object.
class RedisServer {
 public:
  // `arguments` follow --port, e.g. {"--requirepass", "secret"}; with `tls` the port speaks TLS only.
  explicit RedisServer(std::vector<std::string> arguments = {}, bool tls = false)
      : arguments_(std::move(arguments)), tls_(tls) {
    // Another process may take the port between its choice and its use.
    for (int attempt = 0; attempt < 10 && process_ == 0; ++attempt) {
      port_ = FreePort();
      Start();
    }
    EXPECT_NE(process_, 0) << "redis-server did not start (Debian package redis-server)";
  }
  ~RedisServer() { Kill(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  int port() const { return port_; }
  std::string Url(const std::string& credentials = "") const {
    return absl::StrCat(tls_ ? "rediss://" : "redis://", credentials, "127.0.0.1:", port_);
  }

  // Its data is lost.
  void Kill() {
    if (process_ == 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  void Freeze() {
    kill(process_, SIGSTOP);
    waitpid(process_, nullptr, WUNTRACED);
  }
  void Thaw() { kill(process_, SIGCONT); }

  // Starts it on the same port; returns when it listens.
  void Start() {
    int output[2];
    if (pipe(output) != 0) return;
    process_ = fork();
    if (process_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(output[1], STDOUT_FILENO);
      const std::string port = absl::StrCat(port_);
      std::vector<const char*> words = {"redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"};
      if (tls_) words.insert(words.end(), {"--port", "0", "--tls-port", port.c_str()});
      if (!tls_) words.insert(words.end(), {"--port", port.c_str()});
      for (const std::string& argument : arguments_) words.push_back(argument.c_str());
      words.push_back(nullptr);
      execvp(words[0], const_cast<char* const*>(words.data()));
      _exit(127);
    }
    close(output[1]);
    FILE* log = fdopen(output[0], "r");
    char line[1024];
    bool ready = false;
    while (!ready && fgets(line, sizeof(line), log) != nullptr) {
      ready = std::string(line).find("Ready to accept connections") != std::string::npos;
    }
    fclose(log);
    if (!ready) Kill();
  }

 private:
  static int FreePort() {
    const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    bind(descriptor, reinterpret_cast<sockaddr*>(&address), size);
    getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
    close(descriptor);
    return ntohs(address.sin_port);
  }

  const std::vector<std::string> arguments_;
  const bool tls_;
  int port_ = 0;
  pid_t process_ = 0;
};

}  // namespace berth::testing
