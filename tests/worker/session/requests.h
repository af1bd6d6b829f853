#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "worker/session/journal.h"

namespace berth::testing {

inline const session::SessionKey kKey{.tenant = "acme", .model = "m", .session_id = "s"};
inline const absl::Time kNow = absl::FromUnixSeconds(1700000000);

// A claim of kKey at kNow.
inline session::ClaimRequest ClaimBy(std::string holder, std::string request_id = "r", std::vector<std::string> lost = {}) {
  return {.key = kKey,
          .request_id = std::move(request_id),
          .holder = std::move(holder),
          .lost_holders = std::move(lost),
          .now = kNow};
}

}  // namespace berth::testing
