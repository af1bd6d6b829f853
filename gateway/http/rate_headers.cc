#include "gateway/http/rate_headers.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace berth::http {

std::vector<std::pair<std::string, std::string>> RateHeaders(const admission::RateLimiter::Levels& levels) {
  std::vector<std::pair<std::string, std::string>> headers;
  const auto add = [&](const char* what, const std::optional<admission::RateLimiter::Level>& level) {
    if (!level.has_value()) return;
    headers.emplace_back(absl::StrCat("x-ratelimit-limit-", what), absl::StrCat(level->limit));
    headers.emplace_back(absl::StrCat("x-ratelimit-remaining-", what), absl::StrCat(level->remaining));
    headers.emplace_back(absl::StrCat("x-ratelimit-reset-", what),
                         absl::FormatDuration(absl::Ceil(level->reset, absl::Milliseconds(1))));
  };
  add("requests", levels.requests);
  add("tokens", levels.tokens);
  return headers;
}

}  // namespace berth::http
