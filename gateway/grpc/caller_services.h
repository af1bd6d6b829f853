#pragma once

#include "gateway/grpc/generation_calls.h"
#include "gateway/grpc/worker_stubs.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/model.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/server.h"

namespace berth::gateway {

// InferenceService, SessionService and ModelService for callers. Generations go through the relay; what concerns one session
// goes to its owner, tokenizing to any worker, as plain rpcs. Outlives its server, which has one shard.
class CallerServices {
 public:
  CallerServices(const CallerContext& context, WorkerStubs& stubs) : context_(context), stubs_(stubs) {}

  // Before server.Start().
  void AddTo(rpc::Server& server);

 private:
  void AddInference(rpc::Server& server);
  void AddSession(rpc::Server& server);
  void AddModel(rpc::Server& server);

  // A worker that is up, the least loaded first; -1 when none serves `model`.
  int AnyWorker(const std::string& model) const;
  int OwnerOf(const rpc::Tenant& tenant, const std::string& session_id) const;

  const CallerContext context_;
  WorkerStubs& stubs_;
  v1::InferenceService::AsyncService inference_;
  v1::SessionService::AsyncService session_;
  v1::ModelService::AsyncService model_;
};

}  // namespace berth::gateway
