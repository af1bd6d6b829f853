#pragma once

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace berth::rpc {

// Who a caller is, and what it may use.
struct Tenant {
  static constexpr double kUnlimited = std::numeric_limits<double>::infinity();

  std::string name;
  double requests_per_minute = kUnlimited;
  double tokens_per_minute = kUnlimited;  // of prompts and output
  int max_priority = std::numeric_limits<int>::max();
};

struct ApiKeyOptions {
  std::vector<std::string> keys;  // of the tenant "default"
  std::string file;
  bool enabled() const { return !keys.empty() || !file.empty(); }
};

// The callers' keys, of which only SHA-256 digests are kept.
class ApiKeys {
 public:
  // `options.keys` and those of `options.file`, a text of lines
  //   tenant NAME [requests-per-minute=N] [tokens-per-minute=N] [max-priority=N]
  //   key sha256:HEX NAME
  // where `#` begins a comment, and a tenant's line comes before its keys'. INVALID_ARGUMENT names the file and line.
  static absl::StatusOr<ApiKeys> Load(const ApiKeyOptions& options);

  // Null for a key that is not in the table.
  std::shared_ptr<const Tenant> Find(std::string_view key) const;

 private:
  absl::Status Add(std::string_view text);
  absl::Status AddLine(const std::vector<std::string>& words);

  std::map<std::string, std::shared_ptr<const Tenant>> tenants_;    // by name
  std::map<std::string, std::shared_ptr<const Tenant>> by_digest_;  // by hexadecimal digest
};

// Tells callers by their keys, which may be replaced while it is used. Thread-safe.
class Authenticator {
 public:
  // Without keys: every caller is the tenant "default".
  Authenticator() = default;
  explicit Authenticator(ApiKeys keys) { Replace(std::move(keys)); }

  void Replace(ApiKeys keys);
  // `authorization` is a header's or metadata's value, "Bearer KEY". UNAUTHENTICATED "NO_API_KEY" or "UNKNOWN_API_KEY".
  absl::StatusOr<std::shared_ptr<const Tenant>> Authenticate(std::string_view authorization) const;

 private:
  mutable base::Mutex mutex_;
  std::shared_ptr<const ApiKeys> keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::rpc
