#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/rpc/api_keys.h"

namespace berth::admission {

// Token buckets per tenant, of requests and of tokens: each holds a minute's worth and fills up within a minute. This gateway
// grants its share of the limits, an equal one among `gateways`. What a request uses is known only when it has ended: until
// then an estimate is taken, and a bucket may run into debt. Times are monotonic. Thread: one owner.
class RateLimiter {
 public:
  struct Level {
    int64_t limit = 0;
    int64_t remaining = 0;
    absl::Duration reset;  // until the bucket is full again
  };
  // Absent without a limit.
  struct Levels {
    std::optional<Level> requests, tokens;
  };

  // Takes one request, unless this is a `further` part of one, and `tokens`. RESOURCE_EXHAUSTED "RATE_LIMITED" with RetryInfo
  // when one of the buckets has too little; then nothing is taken. A request larger than its bucket needs a full one.
  absl::Status Take(const rpc::Tenant& tenant, int64_t tokens, bool further, int gateways, absl::Duration now);
  // Takes more tokens, or gives some back when `tokens` is negative.
  void Correct(const rpc::Tenant& tenant, int64_t tokens);
  Levels Get(const rpc::Tenant& tenant, int gateways, absl::Duration now);

 private:
  struct Bucket {
    double level = 0, capacity = 0;
    absl::Duration filled_at;

    // To the present; a new capacity keeps what was used.
    void Fill(double new_capacity, absl::Duration now);
    absl::Duration TimeUntil(double wanted) const;
    Level level_now() const;
  };
  // An unlimited bucket's capacity is infinite.
  struct Account {
    Bucket requests, tokens;
  };

  Account& Filled(const rpc::Tenant& tenant, int gateways, absl::Duration now);

  // As many as there are names in the file of keys, over all its versions.
  absl::flat_hash_map<std::string, Account> accounts_;
};

}  // namespace berth::admission
