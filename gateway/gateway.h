#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/discovery/discovery.h"
#include "gateway/relay/relay.h"
#include "proto/rpc/api_keys.h"
#include "proto/rpc/tls.h"

namespace berth::gateway {

struct GatewayOptions {
  std::string host = "127.0.0.1";
  // 0: any free one.
  int http_port = 23333;
  int grpc_port = 23334;
  int admin_port = 23335;
  int metrics_port = 23336;
  int http_threads = 2;
  // Whose pages may call over HTTP, and how long a stream may say nothing.
  std::vector<std::string> allowed_origins = {"*"};
  absl::Duration http_heartbeat = absl::Seconds(15);
  // In which a caller has to send a request.
  absl::Duration http_request_timeout = absl::Seconds(60);
  // Between the end of readiness and the first refusal of a drain.
  absl::Duration drain_accept = absl::Seconds(5);
  // Of the admin port: beyond loopback it demands client certificates.
  std::string admin_host = "127.0.0.1";
  // Towards callers, on all ports but that of metrics; and towards workers.
  rpc::TlsOptions tls, worker_tls;
  rpc::ApiKeyOptions api_keys;
  discovery::DiscoveryOptions discovery;
  relay::RelayOptions relay;
};

struct GatewayPorts {
  int http = 0;
  int grpc = 0;
  int admin = 0;
  int metrics = 0;
};

// A whole gateway in this process: wires the rooms and stops them in order. Thread: the owner's.
class Gateway {
 public:
  // Listens on all ports and begins to attach workers. INVALID_ARGUMENT and NOT_FOUND say what is wrong with the list of
  // workers, with a file of keys or with certificates; later such files are read again when they change, and those that are no
  // good are logged and passed over. `on_all_workers` runs once, on a thread of the gateway, when every worker has been ready
  // at the same time. UNAVAILABLE names the address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(const GatewayOptions& options, std::function<void()> on_all_workers);
  ~Gateway();

  GatewayPorts ports() const;
  // Takes nothing new, lets what runs end for at most `grace`, then ends the rest with UNAVAILABLE.
  void Stop(absl::Duration grace);

 private:
  class Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::gateway
