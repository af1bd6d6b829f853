#include "gateway/admission/rate_limiter.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"

namespace berth::admission {
namespace {

absl::Status RateLimitedError(const rpc::Tenant& tenant, const char* what, double per_minute, absl::Duration wait) {
  return rpc::WithRetryAfter(
      rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "RATE_LIMITED",
                           absl::StrCat("tenant ", tenant.name, " has used up its ", per_minute, " ", what, " per minute")),
      wait);
}

}  // namespace

void RateLimiter::Bucket::Fill(double new_capacity, absl::Duration now) {
  if (capacity != new_capacity) {
    level = capacity == 0 || std::isinf(capacity) ? new_capacity : level + new_capacity - capacity;
    capacity = new_capacity;
    filled_at = now;
  }
  if (std::isinf(capacity)) return;
  level = std::min(capacity, level + capacity * absl::FDivDuration(now - filled_at, absl::Minutes(1)));
  filled_at = now;
}

absl::Duration RateLimiter::Bucket::TimeUntil(double wanted) const {
  return std::max(wanted - level, 0.0) / capacity * absl::Minutes(1);
}

RateLimiter::Level RateLimiter::Bucket::level_now() const {
  return {.limit = static_cast<int64_t>(capacity),
          .remaining = static_cast<int64_t>(std::max(level, 0.0)),
          .reset = TimeUntil(capacity)};
}

RateLimiter::Account& RateLimiter::Filled(const rpc::Tenant& tenant, int gateways, absl::Duration now) {
  Account& account = accounts_[tenant.name];
  account.requests.Fill(std::max(tenant.requests_per_minute / gateways, 1.0), now);
  account.tokens.Fill(std::max(tenant.tokens_per_minute / gateways, 1.0), now);
  return account;
}

absl::Status RateLimiter::Take(const rpc::Tenant& tenant, int64_t tokens, bool further, int gateways, absl::Duration now) {
  Account& account = Filled(tenant, gateways, now);
  const double wanted = std::min(static_cast<double>(tokens), account.tokens.capacity);
  const double requests = further ? 0 : 1;
  if (account.requests.level < requests) {
    return RateLimitedError(tenant, "requests", tenant.requests_per_minute, account.requests.TimeUntil(requests));
  }
  if (account.tokens.level < wanted) {
    return RateLimitedError(tenant, "tokens", tenant.tokens_per_minute, account.tokens.TimeUntil(wanted));
  }
  account.requests.level -= requests;
  account.tokens.level -= static_cast<double>(tokens);
  return absl::OkStatus();
}

void RateLimiter::Correct(const rpc::Tenant& tenant, int64_t tokens) {
  if (const auto found = accounts_.find(tenant.name); found != accounts_.end()) found->second.tokens.level -= tokens;
}

RateLimiter::Levels RateLimiter::Get(const rpc::Tenant& tenant, int gateways, absl::Duration now) {
  const Account& account = Filled(tenant, gateways, now);
  Levels levels;
  if (std::isfinite(account.requests.capacity)) levels.requests = account.requests.level_now();
  if (std::isfinite(account.tokens.capacity)) levels.tokens = account.tokens.level_now();
  return levels;
}

}  // namespace berth::admission
