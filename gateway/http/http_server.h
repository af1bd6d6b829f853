#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/http/connection.h"

namespace berth::http {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  int threads = 2;
  int max_connections = 4096;
  // Null: plaintext. Outlives the server.
  const TlsContext* tls = nullptr;
  ConnectionContext connection;
};

// The gateway's HTTP port: OpenAI's API on a pool of threads of its own. Thread: the owner's.
class HttpServer {
 public:
  // UNAVAILABLE names the address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options);
  // Closes what is open.
  ~HttpServer();

  int port() const;
  // Accepts nothing new and lets the requests under way end.
  void Drain();
  // False when connections are left at the end of `timeout`.
  bool WaitUntilIdle(absl::Duration timeout);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::http
