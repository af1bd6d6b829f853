#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "gateway/grpc/rpc_metrics.h"
#include "gateway/relay/metrics.h"
#include "gateway/relay/relay.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/rpc/api_keys.h"
#include "proto/rpc/server_call.h"

namespace berth::gateway {

// What the calls of one shard work with. Thread: that shard.
struct CallerContext {
  relay::Relay& relay;
  relay::GatewayMetrics& metrics;
  RpcMetrics& rpc_metrics;
  const base::Clock& clock;
  const rpc::Authenticator& authenticator;
};

using StreamGenerateCall = rpc::ServerStreamCall<v1::StreamGenerateRequest, v1::StreamGenerateResponse>;
using GenerateCall = rpc::UnaryCall<v1::GenerateRequest, v1::GenerateResponse>;

// Run a call to its end. The metadata x-session-id and x-request-id stand in for the fields when those are empty; answers carry
// x-worker-id, x-worker-incarnation and x-affinity.
void RunStreamGenerate(const CallerContext& context, std::shared_ptr<StreamGenerateCall> call);
void RunGenerate(const CallerContext& context, std::shared_ptr<GenerateCall> call);

// By the call's metadata `authorization`; UNAUTHENTICATED.
absl::StatusOr<std::shared_ptr<const rpc::Tenant>> Authenticate(const CallerContext& context, const rpc::ServerCall& call);

}  // namespace berth::gateway
