#pragma once

#include <memory>
#include <optional>
#include <string>

namespace berth::cli {

// Lines typed at a terminal, with editing and a history that outlives the program (libedit: readline's licence does not go with
// ours, and libedit is in Debian and knows UTF-8). Thread: the process's main thread.
class Terminal {
 public:
  // `history_file`: read now, and written at the end; empty: none.
  explicit Terminal(std::string history_file);
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal();

  // The next line without its end; nothing at the end of the input.
  std::optional<std::string> ReadLine(const std::string& prompt);

 private:
  struct State;
  const std::unique_ptr<State> state_;
  const std::string history_file_;
};

}  // namespace berth::cli
