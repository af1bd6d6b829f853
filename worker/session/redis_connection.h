#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/session/redis_options.h"

namespace berth::session {

// What Redis answers: a text or number (`text`), an array (`items`), or nothing (`nil`).
struct RedisReply {
  bool nil = false;
  std::string text;
  std::vector<RedisReply> items;
};

// One authenticated connection: a non-blocking socket, with TLS if asked for, waited on until a deadline and no longer; looking
// up the server's name may take longer. Deadlines are times of base::SystemClock().Monotonic(). Thread: one at a time.
class RedisConnection {
 public:
  // Errors say why, and name neither server nor password.
  static absl::StatusOr<std::unique_ptr<RedisConnection>> Connect(const RedisOptions& options, absl::Duration deadline);
  ~RedisConnection();

  // Runs one command. After an error of whichever kind the connection is to be dropped: a late answer might still come.
  absl::StatusOr<RedisReply> Call(const std::vector<std::string_view>& words, absl::Duration deadline);

  // The server's clock, microseconds since 1970; behind it by no more than a round trip.
  int64_t ServerMicros() const;

 private:
  class Transport;
  explicit RedisConnection(std::unique_ptr<Transport> transport);
  absl::Status Greet(const RedisOptions& options, absl::Duration deadline);

  const std::unique_ptr<Transport> transport_;
  absl::Duration server_ahead_;  // server's clock less ours
};

}  // namespace berth::session
