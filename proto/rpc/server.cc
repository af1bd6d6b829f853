#include "proto/rpc/server.h"

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"
#include "grpc/grpc.h"
#include "grpcpp/security/server_credentials.h"

namespace berth::rpc {
namespace {

// The way in for connections that were accepted elsewhere. Adds another server's queue, if any: that can be done only between a
// server's creation and its start, when it asks for its port.
class PortCredentials : public grpc::ServerCredentials {
 public:
  PortCredentials(CoreServerCredentials credentials, Shard* shared) : credentials_(std::move(credentials)), shared_(shared) {}
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    if (shared_ != nullptr) grpc_server_register_completion_queue(server, shared_->queue().cq(), nullptr);
    return grpc_server_add_http2_port(server, address.c_str(), credentials_.get());
  }

  const CoreServerCredentials credentials_;
  Shard* const shared_;
};

}  // namespace

Server::Server(const ServerOptions& options) : options_(options) {
  for (int i = 0; i < options.shards; ++i) shards_.push_back(std::make_unique<Shard>(builder_.AddCompletionQueue()));
}

Server::~Server() { Shutdown(absl::ZeroDuration()); }

absl::Status Server::Start() {
  BERTH_ASSIGN_OR_RETURN(CoreServerCredentials credentials, MakeServerCredentials(options_.tls));
  BERTH_ASSIGN_OR_RETURN(acceptor_, Acceptor::Listen(options_.host, options_.port));
  connections_ = builder_.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::make_shared<PortCredentials>(std::move(credentials), options_.shared_shard));
  builder_.SetMaxReceiveMessageSize(options_.max_message_bytes);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
  builder_.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  server_ = builder_.BuildAndStart();
  if (server_ == nullptr) return absl::InternalError("gRPC does not start a server");
  std::vector<Shard*> shards;
  if (options_.shared_shard != nullptr) {
    base::Notification listening;
    options_.shared_shard->Post([&] {
      Listen(*options_.shared_shard);
      listening.Notify();
    });
    listening.Wait();
    shards = {options_.shared_shard};
  } else {
    for (const std::unique_ptr<Shard>& shard : shards_) {
      Listen(*shard);
      shard->Start();
      shards.push_back(shard.get());
    }
  }
  acceptor_->Start(*connections_, [shards](const std::string& peer, int socket) {
    for (Shard* shard : shards) shard->gather().Opened(peer, socket);
  });
  return absl::OkStatus();
}

void Server::Listen(Shard& shard) {
  for (const std::shared_ptr<MethodBase>& method : methods_) method->Listen(shard);
}

void Server::Shutdown(absl::Duration grace) {
  if (acceptor_ != nullptr) acceptor_->Stop();
  if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  for (const std::unique_ptr<Shard>& shard : shards_) shard->Stop();
  // What a shared queue still holds refers to it.
  if (options_.shared_shard == nullptr) server_.reset();
}

}  // namespace berth::rpc
