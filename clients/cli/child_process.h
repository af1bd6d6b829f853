#pragma once

#include <signal.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::cli {

// The folder of the running program, where its siblings are. INTERNAL when /proc does not tell.
absl::StatusOr<std::string> ProgramFolder();

// "exit code 3", "signal 9", as waitpid reports it.
std::string DescribeExit(int wait_status);

// A program that ends with the thread that started it, however that ends (PR_SET_PDEATHSIG), in a process group of its own so
// that a terminal's Ctrl-C reaches the parent alone. Thread: the owner's, which must outlive it.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;                            // arguments[0] is the program's path
    std::vector<std::pair<std::string, std::string>> environment;  // beside the parent's
    int death_signal = SIGKILL;                                    // what it gets when that thread ends
  };

  // INTERNAL when the system refuses; a program that cannot be executed exits with code 127.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const Options& options);
  // Kills the program if it runs, and waits for its end.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // Reading ends of its standard output and error: non-blocking.
  int output() const { return output_; }
  int errors() const { return errors_; }

  void Signal(int number) const;
  // True once the program has ended; then exit_status() is what waitpid gave. Does not wait.
  bool Ended();
  int exit_status() const { return exit_status_; }

 private:
  ChildProcess(pid_t pid, int output, int errors) : pid_(pid), output_(output), errors_(errors) {}

  const pid_t pid_;
  const int output_;
  const int errors_;
  bool ended_ = false;
  int exit_status_ = 0;
};

// Cuts what a descriptor delivers into lines. Thread: one at a time.
class LineReader {
 public:
  explicit LineReader(int descriptor) : descriptor_(descriptor) {}

  // Reads what there is, without waiting when the descriptor does not block, and returns the lines that are whole, without
  // their ends; at the end of the stream the rest as a last line. A line beyond 64 KiB is cut.
  std::vector<std::string> Read();
  bool at_end() const { return at_end_; }

 private:
  const int descriptor_;
  std::string partial_;
  bool at_end_ = false;
};

}  // namespace berth::cli
