#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/server_builder.h"

namespace berth::rpc {

// Accepts a gRPC server's connections on a thread of its own, since gRPC does not say which socket a call came over. Thread:
// the owner's.
class Acceptor {
 public:
  // UNAVAILABLE names the address that cannot be listened on. Nothing is accepted before Start.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(const std::string& host, int port);
  ~Acceptor();  // Stop

  int port() const;
  // A connection's caller as grpc::ServerContext::peer() says it, and its socket, which is gRPC's. On the acceptor's thread.
  using Opened = std::function<void(const std::string& peer, int socket)>;
  // Once. `server` outlives the acceptor.
  void Start(grpc::experimental::ExternalConnectionAcceptor& server, Opened opened);
  // Accepts nothing new. A second call does nothing.
  void Stop();

 private:
  class Impl;
  explicit Acceptor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::rpc
