#include "proto/rpc/server.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/impl/server_builder_option.h"

namespace berth::rpc {
namespace {

class ReflectionOption : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->push_back(std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>());
  }
};

}  // namespace

Server::Server(const ServerOptions& options) : options_(options) {
  for (int i = 0; i < options.shards; ++i) shards_.push_back(std::make_unique<Shard>(builder_.AddCompletionQueue()));
}

Server::~Server() { Shutdown(absl::ZeroDuration()); }

absl::Status Server::Start() {
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials, MakeServerCredentials(options_.tls));
  const std::string address = absl::StrCat(options_.host, ":", options_.port);
  builder_.AddListeningPort(address, credentials, &port_);
  builder_.SetMaxReceiveMessageSize(options_.max_message_bytes);
  builder_.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
  builder_.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder_.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
  if (options_.reflection) builder_.SetOption(std::make_unique<ReflectionOption>());
  server_ = builder_.BuildAndStart();
  if (server_ == nullptr || port_ == 0) return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  for (const std::unique_ptr<Shard>& shard : shards_) {
    for (const std::unique_ptr<MethodBase>& method : methods_) method->Listen(*shard);
    shard->Start();
  }
  return absl::OkStatus();
}

void Server::Shutdown(absl::Duration grace) {
  if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  for (const std::unique_ptr<Shard>& shard : shards_) shard->Stop();
  server_.reset();
}

}  // namespace berth::rpc
