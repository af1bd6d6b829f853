#pragma once

#include <string>
#include <vector>

#include "proto/grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "proto/rpc/server.h"

namespace berth::rpc {

// grpc.reflection.v1alpha: what a server offers, for grpcurl and the like. gRPC's own brings threads that contend with the
// shards for the polling of sockets. Outlives its server. Thread-safe.
class ReflectionService {
 public:
  // Full names of the services that are listed. Descriptors are given of everything that is linked in.
  explicit ReflectionService(std::vector<std::string> services) : services_(std::move(services)) {}

  // Before server.Start().
  void AddTo(Server& server);

 private:
  using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
  using Response = grpc::reflection::v1alpha::ServerReflectionResponse;

  Response Answer(const Request& request) const;

  const std::vector<std::string> services_;
  grpc::reflection::v1alpha::ServerReflection::AsyncService service_;
};

}  // namespace berth::rpc
