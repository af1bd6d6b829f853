#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/model.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/api_keys.h"
#include "proto/rpc/server.h"
#include "worker/service/direct_calls.h"
#include "worker/service/embedder.h"
#include "worker/service/link.h"
#include "worker/service/worker_status.h"

namespace berth::service {

// The services of the data port, whose shard 0 is the I/O thread. Outlives the server.
class WorkerServices {
 public:
  struct Parts {
    GenerationCore& core;
    WorkerStatus& status;
    LinkHub& links;
    TokenizerPool& pool;
    session::SessionStore& sessions;
    Embedder& embedder;
    // Generations from others than gateways (--serve-callers).
    bool serve_callers = false;
    // Theirs. Null: they need none. With keys no gateway is served: anyone could say to be one.
    const rpc::Authenticator* keys = nullptr;
  };
  WorkerServices(const Parts& parts, rpc::Server& server);

 private:
  void AddInference(rpc::Server& server);
  void AddSessions(rpc::Server& server);
  void AddModels(rpc::Server& server);
  void AddWorker(rpc::Server& server);
  // Gateways name the tenant, a direct caller's key tells it; without keys it is empty.
  absl::StatusOr<std::string> TenantOf(const rpc::ServerCall& call) const;
  // Nothing when the caller was refused.
  template <typename Call>
  std::optional<session::SessionKey> KeyOf(Call& call) const;
  absl::Status CheckGateway() const;

  const Parts parts_;
  v1::InferenceService::AsyncService inference_;
  v1::SessionService::AsyncService sessions_;
  v1::ModelService::AsyncService models_;
  v1::WorkerService::AsyncService worker_;
};

// AdminService, on the admin port's own shard. Outlives the server.
class AdminServices {
 public:
  struct Parts {
    WorkerStatus& status;
    rpc::Shard& io;  // the I/O thread
    // INVALID_ARGUMENT for an unknown level. Thread-safe.
    absl::AnyInvocable<absl::Status(const std::string& level)> set_log_level;
  };
  AdminServices(Parts parts, rpc::Server& server);

 private:
  using DrainCall = rpc::ServerStreamCall<v1::DrainRequest, v1::DrainResponse>;

  void Report(const std::shared_ptr<DrainCall>& call);

  Parts parts_;
  v1::AdminService::AsyncService admin_;
};

}  // namespace berth::service
