#include "clients/cli/bench_progress.h"

#include "absl/strings/str_format.h"

namespace berth::cli {

std::string RequestsText(size_t ended, size_t total, int seconds) {
  const std::string rate = seconds == 0 ? "" : absl::StrFormat(", %.1f a second", static_cast<double>(ended) / seconds);
  return absl::StrFormat(", %d of %d requests%s", ended, total, rate);
}

BenchProgress::BenchProgress(size_t total)
    : line_("measuring", [this, total](int seconds) { return RequestsText(ended_, total, seconds); }) {}

}  // namespace berth::cli
