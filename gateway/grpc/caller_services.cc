#include "gateway/grpc/caller_services.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/relay/placement.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/deadline.h"
#include "proto/rpc/status.h"

namespace berth::gateway {
namespace {

using Inference = v1::InferenceService;
using Session = v1::SessionService;
using Model = v1::ModelService;

// Of a call that names no deadline.
constexpr absl::Duration kForwardTimeout = absl::Seconds(30);

// Of one that computes.
constexpr absl::Duration kEmbedTimeout = absl::Minutes(10);

// A unary call with its place in the metrics.
template <typename Request, typename Response>
struct Answer {
  Answer(const CallerContext& context, std::shared_ptr<rpc::UnaryCall<Request, Response>> call, const char* service,
         const char* method)
      : call(std::move(call)), meter(context.rpc_metrics, service, method) {}

  void Fail(const absl::Status& status) {
    meter.Ended(status.code());
    call->Fail(status);
  }
  void Finish(const Response& response) {
    meter.Ended(absl::StatusCode::kOk);
    call->Finish(response);
  }

  const std::shared_ptr<rpc::UnaryCall<Request, Response>> call;
  RpcMetrics::Call meter;
  std::shared_ptr<const rpc::Tenant> tenant;
};

// Null when the caller was refused.
template <typename Request, typename Response>
std::shared_ptr<Answer<Request, Response>> Begin(const CallerContext& context,
                                                 std::shared_ptr<rpc::UnaryCall<Request, Response>> call, const char* service,
                                                 const char* method) {
  auto tenant = Authenticate(context, *call);
  auto answer = std::make_shared<Answer<Request, Response>>(context, std::move(call), service, method);
  if (tenant.ok()) {
    answer->tenant = *std::move(tenant);
    return answer;
  }
  answer->Fail(tenant.status());
  return nullptr;
}

// Asks a worker in the tenant's name.
template <typename Stub, typename Prepare, typename Request, typename Response>
void Ask(rpc::Shard& shard, Stub& stub, Prepare prepare, const std::string& tenant, const Request& request,
         std::function<void(const absl::Status&, const Response&)> done) {
  rpc::CallUnary(shard, stub, prepare, request, {.timeout = kForwardTimeout, .metadata = {{"x-berth-tenant", tenant}}},
                 [done = std::move(done)](const absl::Status& status, Response& response) { done(status, response); });
}

// Sends the call on to a worker in the tenant's name, and its answer back.
template <typename Request, typename Response, typename Stub, typename Prepare>
void Forward(const CallerContext& context, std::shared_ptr<Answer<Request, Response>> answer, Stub& stub, Prepare prepare) {
  const rpc::CallOptions options{.timeout = std::min(rpc::TimeLeft(answer->call->context()), kForwardTimeout),
                                 .metadata = {{"x-berth-tenant", answer->tenant->name}}};
  const std::shared_ptr<rpc::ClientCall> forwarded =
      rpc::CallUnary(answer->call->shard(), stub, prepare, answer->call->request(), options,
                     [answer](const absl::Status& status, Response& response) {
                       if (status.ok()) {
                         answer->Finish(response);
                       } else {
                         answer->Fail(status);
                       }
                     });
  answer->call->OnCancel([forwarded] { forwarded->Cancel(); });
}

}  // namespace

void CallerServices::AddTo(rpc::Server& server) {
  AddInference(server);
  AddSession(server);
  AddModel(server);
}

void CallerServices::AddInference(rpc::Server& server) {
  server.Register(inference_);
  server.AddServerStream(
      inference_, &Inference::AsyncService::RequestStreamGenerate,
      [this](auto call) { RunStreamGenerate(context_, std::move(call)); }, rpc::Server::kOften);
  server.AddUnary(
      inference_, &Inference::AsyncService::RequestGenerate, [this](auto call) { RunGenerate(context_, std::move(call)); },
      rpc::Server::kOften);
  server.AddUnary(inference_, &Inference::AsyncService::RequestCancel, [this](auto call) {
    const auto answer = Begin(context_, call, "InferenceService", "Cancel");
    if (answer == nullptr) return;
    if (absl::Status status = relay::CheckCancel(call->request()); !status.ok()) return answer->Fail(status);
    context_.relay.Cancel(answer->tenant->name, call->request(), [answer](bool found) {
      v1::CancelResponse response;
      response.set_found(found);
      answer->Finish(response);
    });
  });
  const auto forward_any = [this](auto answer, auto prepare) {
    if (answer == nullptr) return;
    const std::string& model = answer->call->request().model();
    const int worker = AnyWorker(model);
    if (worker < 0) return answer->Fail(relay::NoWorkerError(context_.relay.view(), model));
    Forward(context_, answer, stubs_.inference(worker), prepare);
  };
  server.AddUnary(inference_, &Inference::AsyncService::RequestTokenize, [this, forward_any](auto call) {
    forward_any(Begin(context_, std::move(call), "InferenceService", "Tokenize"), &Inference::Stub::PrepareAsyncTokenize);
  });
  server.AddUnary(inference_, &Inference::AsyncService::RequestDetokenize, [this, forward_any](auto call) {
    forward_any(Begin(context_, std::move(call), "InferenceService", "Detokenize"), &Inference::Stub::PrepareAsyncDetokenize);
  });
  AddEmbed(server);
}

void CallerServices::AddEmbed(rpc::Server& server) {
  server.AddUnary(inference_, &Inference::AsyncService::RequestEmbed, [this](auto call) {
    const auto answer = Begin(context_, call, "InferenceService", "Embed");
    if (answer == nullptr) return;
    call->OnCancel(Embed(call->shard(), answer->tenant, call->request(), /*further=*/false, rpc::TimeLeft(call->context()),
                         [answer](const absl::Status& status, const v1::EmbedResponse& response) {
                           if (status.ok()) {
                             answer->Finish(response);
                           } else {
                             answer->Fail(status);
                           }
                         }));
  });
}

void CallerServices::AddSession(rpc::Server& server) {
  server.Register(session_);
  const auto forward_owner = [this](auto answer, auto prepare) {
    if (answer == nullptr) return;
    FindOwner(answer->tenant->name, answer->call->request(), [this, answer, prepare](const absl::StatusOr<int>& worker) {
      if (!worker.ok()) return answer->Fail(worker.status());
      Forward(context_, answer, stubs_.session(*worker), prepare);
    });
  };
  server.AddUnary(session_, &Session::AsyncService::RequestGetSession, [this, forward_owner](auto call) {
    forward_owner(Begin(context_, std::move(call), "SessionService", "GetSession"), &Session::Stub::PrepareAsyncGetSession);
  });
  server.AddUnary(session_, &Session::AsyncService::RequestCloseSession, [this, forward_owner](auto call) {
    forward_owner(Begin(context_, std::move(call), "SessionService", "CloseSession"), &Session::Stub::PrepareAsyncCloseSession);
  });
  server.AddUnary(session_, &Session::AsyncService::RequestForkSession, [this, forward_owner](auto call) {
    forward_owner(Begin(context_, std::move(call), "SessionService", "ForkSession"), &Session::Stub::PrepareAsyncForkSession);
  });
}

void CallerServices::AddModel(rpc::Server& server) {
  server.Register(model_);
  server.AddUnary(model_, &Model::AsyncService::RequestListModels, [this](auto call) {
    const auto answer = Begin(context_, std::move(call), "ModelService", "ListModels");
    if (answer == nullptr) return;
    v1::ListModelsResponse response;
    for (v1::Model& model : context_.relay.view().Models()) *response.add_models() = std::move(model);
    answer->Finish(response);
  });
  server.AddUnary(model_, &Model::AsyncService::RequestGetModel, [this](auto call) {
    const auto answer = Begin(context_, call, "ModelService", "GetModel");
    if (answer == nullptr) return;
    v1::GetModelResponse response;
    for (v1::Model& model : context_.relay.view().Models()) {
      if (model.name() == call->request().name()) *response.mutable_model() = std::move(model);
    }
    if (response.has_model()) return answer->Finish(response);
    answer->Fail(relay::NoWorkerError(context_.relay.view(), call->request().name()));
  });
}

int CallerServices::AnyWorker(const std::string& model, int avoid) const {
  const routing::ClusterView& view = context_.relay.view();
  const routing::RouteDecision decision = routing::Route(view, {.model = model, .avoid = avoid}, context_.clock.Monotonic());
  if (decision.worker >= 0) return decision.worker;
  // All are busy; tokenizing needs no room.
  int found = -1;
  for (int i = 0; i < view.size() && (found < 0 || found == avoid); ++i) {
    if (view.worker(i).link == routing::LinkState::kUp && view.worker(i).FindModel(model) != nullptr) found = i;
  }
  return found;
}

template <typename Request>
void CallerServices::FindOwner(const std::string& tenant, const Request& request,
                               std::function<void(const absl::StatusOr<int>& worker)> done) const {
  if (request.session_id().empty()) return done(rpc::FieldError("session_id", "is empty"));
  v1::HasSessionRequest session;
  session.set_tenant(tenant);
  session.set_model(request.model());
  session.set_session_id(request.session_id());
  context_.relay.FindSession(session, [this, model = request.model(), done = std::move(done)](int worker) {
    if (worker < 0) return done(relay::NoWorkerError(context_.relay.view(), model));
    done(worker);
  });
}

template <typename Request, typename Response, typename Prepare>
void CallerServices::AskOwner(rpc::Shard& shard, const std::string& tenant, const Request& request, Prepare prepare,
                              Done<Response> done) {
  FindOwner(tenant, request,
            [this, &shard, tenant, request, prepare, done = std::move(done)](const absl::StatusOr<int>& worker) {
              if (!worker.ok()) return done(worker.status(), {});
              Ask(shard, stubs_.session(*worker), prepare, tenant, request, done);
            });
}

void CallerServices::Tokenize(rpc::Shard& shard, const std::string& tenant, const v1::TokenizeRequest& request,
                              Done<v1::TokenizeResponse> done) {
  const int worker = AnyWorker(request.model());
  if (worker < 0) return done(relay::NoWorkerError(context_.relay.view(), request.model()), {});
  Ask(shard, stubs_.inference(worker), &Inference::Stub::PrepareAsyncTokenize, tenant, request, std::move(done));
}

void CallerServices::Detokenize(rpc::Shard& shard, const std::string& tenant, const v1::DetokenizeRequest& request,
                                Done<v1::DetokenizeResponse> done) {
  const int worker = AnyWorker(request.model());
  if (worker < 0) return done(relay::NoWorkerError(context_.relay.view(), request.model()), {});
  Ask(shard, stubs_.inference(worker), &Inference::Stub::PrepareAsyncDetokenize, tenant, request, std::move(done));
}

// An Embed under way. Thread: the shard's.
struct CallerServices::Embedding {
  rpc::Shard& shard;
  const std::shared_ptr<const rpc::Tenant> tenant;
  const v1::EmbedRequest request;
  const absl::Duration deadline;
  const int64_t charged;
  Done<v1::EmbedResponse> done;
  std::shared_ptr<rpc::ClientCall> call = nullptr;  // null: it is over
  bool retried = false, cancelled = false;
};

void CallerServices::AskToEmbed(const std::shared_ptr<Embedding>& embedding, int worker) {
  embedding->call = rpc::CallUnary(
      embedding->shard, stubs_.inference(worker), &Inference::Stub::PrepareAsyncEmbed, embedding->request,
      {.timeout = embedding->deadline - context_.clock.Monotonic(), .metadata = {{"x-berth-tenant", embedding->tenant->name}}},
      [this, embedding, worker](const absl::Status& status, v1::EmbedResponse& response) {
        embedding->call = nullptr;
        const bool again = absl::IsUnavailable(status) && !embedding->cancelled && !std::exchange(embedding->retried, true);
        const int other = again ? AnyWorker(embedding->request.model(), worker) : -1;
        if (other >= 0 && other != worker && context_.relay.TakeRetry(status)) return AskToEmbed(embedding, other);
        std::exchange(embedding->done, nullptr)(status, response);  // it may hold what cancels this, and is held by it
        context_.relay.EmbeddingEnded(*embedding->tenant, response.usage().prompt_tokens() - embedding->charged);
      });
}

std::function<void()> CallerServices::Embed(rpc::Shard& shard, const std::shared_ptr<const rpc::Tenant>& tenant,
                                            const v1::EmbedRequest& request, bool further, absl::Duration timeout,
                                            Done<v1::EmbedResponse> done) {
  relay::Relay& relay = context_.relay;
  const int worker = AnyWorker(request.model());
  const absl::StatusOr<int64_t> charged = worker < 0 ? relay::NoWorkerError(relay.view(), request.model())
                                                     : relay.BeginEmbedding(*tenant, request.inputs(), further);
  if (!charged.ok()) {
    done(charged.status(), {});
    return [] {};
  }
  const absl::Duration deadline = context_.clock.Monotonic() + std::min(timeout, kEmbedTimeout);
  auto embedding = std::make_shared<Embedding>(Embedding{.shard = shard,
                                                         .tenant = tenant,
                                                         .request = request,
                                                         .deadline = deadline,
                                                         .charged = *charged,
                                                         .done = std::move(done)});
  AskToEmbed(embedding, worker);
  return [embedding] {
    embedding->cancelled = true;
    if (embedding->call != nullptr) embedding->call->Cancel();
  };
}

void CallerServices::CloseSession(rpc::Shard& shard, const std::string& tenant, const v1::CloseSessionRequest& request,
                                  Done<v1::CloseSessionResponse> done) {
  AskOwner(shard, tenant, request, &Session::Stub::PrepareAsyncCloseSession, std::move(done));
}

void CallerServices::ForkSession(rpc::Shard& shard, const std::string& tenant, const v1::ForkSessionRequest& request,
                                 Done<v1::ForkSessionResponse> done) {
  AskOwner(shard, tenant, request, &Session::Stub::PrepareAsyncForkSession, std::move(done));
}

}  // namespace berth::gateway
