#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gateway/grpc/generation_calls.h"
#include "gateway/grpc/worker_stubs.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/model.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/server.h"

namespace berth::gateway {

// InferenceService, SessionService and ModelService for callers. Generations go through the relay; what concerns one session
// goes to its owner, tokenizing and embedding to any worker, as plain rpcs. Outlives its server, which has one shard.
class CallerServices {
 public:
  CallerServices(const CallerContext& context, WorkerStubs& stubs) : context_(context), stubs_(stubs) {}

  // Before server.Start().
  void AddTo(rpc::Server& server);

  // The same for callers who came another way, in the tenant's name; `shard` is the relay's, and its thread the one to call on.
  template <typename Response>
  using Done = std::function<void(const absl::Status& status, const Response& response)>;
  void Tokenize(rpc::Shard& shard, const std::string& tenant, const v1::TokenizeRequest& request,
                Done<v1::TokenizeResponse> done);
  void Detokenize(rpc::Shard& shard, const std::string& tenant, const v1::DetokenizeRequest& request,
                  Done<v1::DetokenizeResponse> done);
  // A worker that does not go on with it is followed by another, once. Returns what cancels it: `done` hears of that, too. A
  // `further` part of a caller's request counts none against the tenant's limit.
  std::function<void()> Embed(rpc::Shard& shard, const std::shared_ptr<const rpc::Tenant>& tenant,
                              const v1::EmbedRequest& request, bool further, absl::Duration timeout,
                              Done<v1::EmbedResponse> done);
  void CloseSession(rpc::Shard& shard, const std::string& tenant, const v1::CloseSessionRequest& request,
                    Done<v1::CloseSessionResponse> done);
  void ForkSession(rpc::Shard& shard, const std::string& tenant, const v1::ForkSessionRequest& request,
                   Done<v1::ForkSessionResponse> done);

 private:
  struct Embedding;

  void AddInference(rpc::Server& server);
  void AddEmbed(rpc::Server& server);
  void AddSession(rpc::Server& server);
  void AddModel(rpc::Server& server);

  // A worker that is up, the least loaded first; -1 when none serves `model`. `avoid`: only when there is no other; -1: none.
  int AnyWorker(const std::string& model, int avoid = -1) const;
  void AskToEmbed(const std::shared_ptr<Embedding>& embedding, int worker);
  // `done` gets the worker that answers for the request's session, or why there is none.
  template <typename Request>
  void FindOwner(const std::string& tenant, const Request& request,
                 std::function<void(const absl::StatusOr<int>& worker)> done) const;
  template <typename Request, typename Response, typename Prepare>
  void AskOwner(rpc::Shard& shard, const std::string& tenant, const Request& request, Prepare prepare, Done<Response> done);

  const CallerContext context_;
  WorkerStubs& stubs_;
  v1::InferenceService::AsyncService inference_;
  v1::SessionService::AsyncService session_;
  v1::ModelService::AsyncService model_;
};

}  // namespace berth::gateway
