#include "clients/cli/elapsed_line.h"

#include <unistd.h>

#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace berth::cli {

ElapsedLine::ElapsedLine(std::string what) : what_(std::move(what)), terminal_(isatty(STDERR_FILENO) != 0) {
  if (!terminal_) return;
  Show(0);
  thread_ = std::thread([this] {
    for (int seconds = 1; !done_.WaitFor(absl::Seconds(1)); ++seconds) Show(seconds);
  });
}

ElapsedLine::~ElapsedLine() {
  if (!terminal_) return;
  done_.Notify();
  thread_.join();
  std::cerr << "\x1b[K" << std::flush;
}

// The cursor goes back to the begin of the line, over which a log writes.
void ElapsedLine::Show(int seconds) const { std::cerr << absl::StrCat(what_, ", ", seconds, " s\x1b[K\r") << std::flush; }

}  // namespace berth::cli
