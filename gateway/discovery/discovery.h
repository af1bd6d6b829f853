#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/discovery/source.h"

namespace berth::discovery {

struct DiscoveryOptions {
  // One of:
  //   id=host:port,…              static
  //   file:PATH                   entries of that form in a file that is watched, apart by newlines or commas; # comments
  //   dns:host:port,…             one worker per name while the name resolves; its id is the name's first label
  //   srv:name,…                  the targets of SRV records; an id is a target's first label
  std::string workers;
  // "host:port" to ask instead of the system's servers.
  std::string dns_server;
  absl::Duration dns_interval = absl::Seconds(5);
};

// The workers of a cluster, now and later. Thread: the owner's; `on_workers` runs on another one.
class Discovery {
 public:
  // INVALID_ARGUMENT or NOT_FOUND names what is wrong with `workers`.
  static absl::StatusOr<std::unique_ptr<Discovery>> Make(DiscoveryOptions options);

  // What is known at once: nothing yet for DNS.
  const std::vector<routing::WorkerAddress>& first() const { return first_; }
  // Reports the changes from now on, until this is destroyed. Once.
  void Start(OnWorkers on_workers);

 private:
  explicit Discovery(DiscoveryOptions options) : options_(std::move(options)) {}

  const DiscoveryOptions options_;
  std::vector<routing::WorkerAddress> first_;
  std::unique_ptr<Source> source_;
};

}  // namespace berth::discovery
