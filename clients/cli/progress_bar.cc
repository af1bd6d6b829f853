#include "clients/cli/progress_bar.h"

#include <unistd.h>

#include <iostream>

#include "absl/strings/str_format.h"

namespace berth::cli {

std::string BarText(int percent) { return absl::StrFormat("[%-40s] %3d %%", std::string(percent * 2 / 5, '='), percent); }

ProgressBar::ProgressBar() : terminal_(isatty(STDERR_FILENO) != 0) {}

void ProgressBar::Show(uint64_t done, uint64_t total) {
  const int percent = static_cast<int>(total == 0 ? 100 : 100 * done / total);
  if (percent == shown_ || (!terminal_ && percent / 10 == shown_ / 10 && shown_ >= 0)) return;
  shown_ = percent;
  const std::string share = terminal_ ? "\r" + BarText(percent) : absl::StrFormat("%3d %%", percent);
  std::cerr << absl::StrFormat("%s of %.2f GB%s", share, total / 1e9, terminal_ && percent < 100 ? "" : "\n") << std::flush;
}

}  // namespace berth::cli
