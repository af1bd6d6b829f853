#include "clients/cli/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::cli {
namespace {

constexpr size_t kMaxLine = 64 << 10;

absl::Status SystemError(const char* what) { return absl::InternalError(absl::StrCat(what, ": ", strerror(errno))); }

// What the child's main expects of argv and environ; points into the strings.
std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  for (const auto& [name, value] : more) environment.push_back(absl::StrCat(name, "=", value));
  return environment;
}

// Between fork and exec: only calls that are safe after a fork of a process with threads.
[[noreturn]] void Become(pid_t parent, int death_signal, int output, int errors, char* const* arguments,
                         char* const* environment) {
  prctl(PR_SET_PDEATHSIG, death_signal);
  if (getppid() != parent) _exit(127);  // it died before the line above
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  execve(arguments[0], arguments, environment);
  dprintf(STDERR_FILENO, "cannot run %s: %s\n", arguments[0], strerror(errno));
  _exit(127);
}

}  // namespace

absl::StatusOr<std::string> ProgramFolder() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::InternalError(absl::StrCat("/proc/self/exe: ", error.message()));
  return path.parent_path().string();
}

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) return absl::StrCat("signal ", WTERMSIG(wait_status));
  return absl::StrCat("exit code ", WEXITSTATUS(wait_status));
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const Options& options) {
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment = Environment(options.environment);
  const std::vector<char*> argument_pointers = Pointers(arguments), environment_pointers = Pointers(environment);
  int output[2], errors[2];
  if (pipe2(output, O_CLOEXEC) != 0) return SystemError("pipe");
  if (pipe2(errors, O_CLOEXEC) != 0) {
    close(output[0]);
    close(output[1]);
    return SystemError("pipe");
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    Become(parent, options.death_signal, output[1], errors[1], argument_pointers.data(), environment_pointers.data());
  }
  close(output[1]);
  close(errors[1]);
  if (pid < 0) {
    close(output[0]);
    close(errors[0]);
    return SystemError("fork");
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  fcntl(errors[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, output[0], errors[0]));
}

ChildProcess::~ChildProcess() {
  if (!Ended()) {
    Signal(SIGKILL);
    waitpid(pid_, &exit_status_, 0);
  }
  close(output_);
  close(errors_);
}

void ChildProcess::Signal(int number) const {
  if (!ended_) kill(pid_, number);
}

bool ChildProcess::Ended() {
  if (!ended_) ended_ = waitpid(pid_, &exit_status_, WNOHANG) == pid_;
  return ended_;
}

std::vector<std::string> LineReader::Read() {
  char buffer[16 << 10];
  while (!at_end_) {
    const ssize_t count = read(descriptor_, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) break;
    at_end_ = count == 0;
    partial_.append(buffer, count);
    if (count < static_cast<ssize_t>(sizeof(buffer))) break;
  }
  std::vector<std::string> lines;
  for (size_t end; (end = partial_.find('\n')) != std::string::npos || partial_.size() > kMaxLine;) {
    const size_t length = std::min(end, kMaxLine);
    lines.push_back(partial_.substr(0, length));
    partial_.erase(0, length == end ? length + 1 : length);
  }
  if (at_end_ && !partial_.empty()) lines.push_back(std::exchange(partial_, {}));
  return lines;
}

}  // namespace berth::cli
