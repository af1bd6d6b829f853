#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "proto/rpc/tls.h"

namespace berth::rpc {

struct ReleaseServerCredentials {
  void operator()(grpc_server_credentials* credentials) const { grpc_server_credentials_release(credentials); }
};
using CoreServerCredentials = std::unique_ptr<grpc_server_credentials, ReleaseServerCredentials>;

// INVALID_ARGUMENT as CheckTlsFiles. A client checks that the server's certificate names the host it connects to.
absl::StatusOr<CoreServerCredentials> MakeServerCredentials(const TlsOptions& tls);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(const TlsOptions& tls);

// For channels of servers and of the client library: no retries by gRPC (they retry themselves), flow-control windows pinned at
// 64 KiB so that no seconds of tokens hide in buffers, and a connection of its own per channel.
grpc::ChannelArguments ClientChannelArguments();

// Stateless until its first call.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials);

}  // namespace berth::rpc
