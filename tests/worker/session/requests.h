#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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

// Where no journal is yet.
inline std::string TemporaryPath(const std::string& name) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/berth_", getpid(), "_", name);
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) unlink(absl::StrCat(path, suffix).c_str());
  return path;
}

}  // namespace berth::testing
