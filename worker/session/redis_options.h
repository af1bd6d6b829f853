#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace berth::session {

// Where a Redis server is and how to talk to it.
struct RedisOptions {
  std::string host = "localhost";
  int port = 6379;
  int database = 0;
  std::string user;      // empty: the server's default user
  std::string password;  // empty: none is asked for
  bool tls = false;
  // PEM files. Without `ca_file` the server's certificate is held against the system's CAs.
  std::string ca_file, cert_file, key_file;
  absl::Duration connect_timeout = absl::Seconds(5);      // of the first connection; later ones are part of a call
  absl::Duration call_timeout = absl::Milliseconds(250);  // beyond it the journal counts as gone
  absl::Duration retry_after = absl::Milliseconds(500);   // until then a journal that was gone is not asked again

  // As messages and journal domains name it: without user and password.
  std::string Name() const;
};

// redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS; user and password may be percent-encoded. Errors do
// not repeat the password.
absl::StatusOr<RedisOptions> ParseRedisUrl(const std::string& url);

}  // namespace berth::session
