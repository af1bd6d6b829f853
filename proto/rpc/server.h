#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/rpc/acceptor.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/server_call.h"
#include "proto/rpc/shard.h"

namespace berth::rpc {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any free one
  int shards = 1;
  TlsOptions tls;
  // Of another server, that the calls run on: started by then, stopped after this one's Shutdown and before its destruction.
  // For a second port in a process: of two threads that wait for sockets, gRPC has each wake the other for every event.
  Shard* shared_shard = nullptr;
  int max_message_bytes = 16 << 20;
};

// One port and its shards. Register services and methods, Start, and in the end Shutdown. Every method of a registered service
// needs a handler: a call to one without would hang. Thread: the owner's.
class Server {
 public:
  // Requests kept outstanding per method and shard.
  static constexpr int kOften = 64;
  static constexpr int kRare = 4;

  template <typename Call>
  using Handler = std::type_identity_t<absl::AnyInvocable<void(std::shared_ptr<Call>)>>;

  explicit Server(const ServerOptions& options);
  ~Server();  // Shutdown without grace

  // `service` outlives the server.
  void Register(grpc::Service& service) { builder_.RegisterService(&service); }

  // AddUnary(service, &Service::AsyncService::RequestCancel, [](auto call) { … }). Handlers run on the shard that took the
  // call; with several shards, on several threads at once.
  template <typename Service, typename Base, typename Request, typename Response>
  void AddUnary(Service& service,
                void (Base::*request)(grpc::ServerContext*, Request*, grpc::ServerAsyncResponseWriter<Response>*,
                                      grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
                Handler<UnaryCall<Request, Response>> handler, int outstanding = kRare) {
    Add<UnaryCall<Request, Response>>(service, request, std::move(handler), outstanding);
  }
  template <typename Service, typename Base, typename Request, typename Response>
  void AddServerStream(Service& service,
                       void (Base::*request)(grpc::ServerContext*, Request*, grpc::ServerAsyncWriter<Response>*,
                                             grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
                       Handler<ServerStreamCall<Request, Response>> handler, int outstanding = kRare) {
    Add<ServerStreamCall<Request, Response>>(service, request, std::move(handler), outstanding);
  }
  template <typename Service, typename Base, typename Request, typename Response>
  void AddBidi(Service& service,
               void (Base::*request)(grpc::ServerContext*, grpc::ServerAsyncReaderWriter<Response, Request>*,
                                     grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
               Handler<BidiCall<Request, Response>> handler, int outstanding = kRare) {
    Add<BidiCall<Request, Response>>(service, request, std::move(handler), outstanding);
  }

  // UNAVAILABLE names the address that cannot be listened on. Not on a shared shard.
  absl::Status Start();
  int port() const { return acceptor_->port(); }  // once started
  int shards() const { return static_cast<int>(shards_.size()); }
  Shard& shard(int index = 0) { return *shards_[index]; }

  // Accepts nothing new, waits up to `grace` for running calls, cancels the rest and stops the shards. Client calls and
  // whatever else runs on the shards must have been cancelled. Any thread but a shard's; a second call does nothing.
  void Shutdown(absl::Duration grace);

 private:
  template <typename Call, typename Service, typename Request>
  void Add(Service& service, Request request, absl::AnyInvocable<void(std::shared_ptr<Call>)> handler, int outstanding) {
    auto requester = [&service, request](auto... arguments) { (service.*request)(arguments...); };
    methods_.push_back(std::make_shared<Method<Call, decltype(requester)>>(requester, std::move(handler), outstanding));
  }

  void Listen(Shard& shard);

  const ServerOptions options_;
  grpc::ServerBuilder builder_;
  std::vector<std::unique_ptr<Shard>> shards_;  // with a shared one: one that never starts, as gRPC insists on it
  std::vector<std::shared_ptr<MethodBase>> methods_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace berth::rpc
