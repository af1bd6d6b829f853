#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace berth::rpc {

struct HttpListenerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  // Called on the listener's thread; they read snapshots only.
  std::function<bool()> live;
  std::function<bool()> ready;
  std::function<std::string()> metrics;  // Prometheus text
};

// Plain HTTP for probes and metrics on a thread of its own: GET /live, /ready (200 or 503) and /metrics. Stops when destroyed.
class HttpListener {
 public:
  // UNAVAILABLE names the address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Start(const HttpListenerOptions& options);
  ~HttpListener();
  int port() const;

 private:
  class Impl;
  explicit HttpListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::rpc
