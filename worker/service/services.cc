#include "worker/service/services.h"

#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "base/status.h"
#include "proto/rpc/status.h"
#include "worker/service/spec_check.h"

namespace berth::service {
namespace {

using rpc::UnaryCall;

constexpr char kTenantKey[] = "x-berth-tenant";

void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

// Answers `call` on its own shard from another thread.
template <typename Request, typename Response>
void AnswerFromElsewhere(const std::shared_ptr<UnaryCall<Request, Response>>& call,
                         std::type_identity_t<absl::StatusOr<Response>> response) {
  call->shard().Post([call, response = std::move(response)] {
    if (response.ok()) {
      call->Finish(*response);
    } else {
      call->Fail(response.status());
    }
  });
}

absl::Status CallersNotServed() {
  return absl::PermissionDeniedError("this worker serves gateways only (--serve-callers lets others in)");
}

}  // namespace

WorkerServices::WorkerServices(const Parts& parts, rpc::Server& server) : parts_(parts) {
  AddInference(server);
  AddSessions(server);
  AddModels(server);
  AddWorker(server);
}

absl::StatusOr<std::string> WorkerServices::TenantOf(const rpc::ServerCall& call) const {
  if (!parts_.serve_callers) return call.metadata(kTenantKey);
  if (parts_.keys == nullptr) return "";
  BERTH_ASSIGN_OR_RETURN(const std::shared_ptr<const rpc::Tenant> tenant,
                         parts_.keys->Authenticate(call.metadata("authorization")));
  return tenant->name;
}

template <typename Call>
std::optional<session::SessionKey> WorkerServices::KeyOf(Call& call) const {
  absl::StatusOr<std::string> tenant = TenantOf(call);
  if (tenant.ok()) {
    return session::SessionKey{
        .tenant = *std::move(tenant), .model = parts_.core.model().name, .session_id = call.request().session_id()};
  }
  call.Fail(tenant.status());
  return std::nullopt;
}

absl::Status WorkerServices::CheckGateway() const {
  if (parts_.keys == nullptr) return absl::OkStatus();
  return absl::PermissionDeniedError("this worker serves callers with API keys, no gateways");
}

void WorkerServices::AddInference(rpc::Server& server) {
  using Service = v1::InferenceService::AsyncService;
  server.Register(inference_);
  server.AddServerStream(
      inference_, &Service::RequestStreamGenerate,
      [this](std::shared_ptr<StreamGenerateCall> call) {
        if (!parts_.serve_callers) return call->Finish(CallersNotServed());
        const absl::StatusOr<std::string> tenant = TenantOf(*call);
        if (!tenant.ok()) return call->Finish(tenant.status());
        StreamToCaller(parts_.core, *tenant, call);
      },
      rpc::Server::kOften);
  server.AddUnary(
      inference_, &Service::RequestGenerate,
      [this](std::shared_ptr<GenerateCall> call) {
        if (!parts_.serve_callers) return call->Fail(CallersNotServed());
        const absl::StatusOr<std::string> tenant = TenantOf(*call);
        if (!tenant.ok()) return call->Fail(tenant.status());
        AnswerCaller(parts_.core, *tenant, call);
      },
      rpc::Server::kOften);
  server.AddUnary(inference_, &Service::RequestCancel,
                  [this](std::shared_ptr<UnaryCall<v1::CancelRequest, v1::CancelResponse>> call) {
                    const absl::StatusOr<std::string> tenant = TenantOf(*call);
                    if (!tenant.ok()) return call->Fail(tenant.status());
                    Request* request = parts_.core.Find(*tenant, call->request().request_id(), call->request().session_id());
                    v1::CancelResponse response;
                    response.set_found(request != nullptr && parts_.core.Cancel(*request));
                    call->Finish(response);
                  });
  server.AddUnary(inference_, &Service::RequestTokenize,
                  [this](std::shared_ptr<UnaryCall<v1::TokenizeRequest, v1::TokenizeResponse>> call) {
                    if (const auto tenant = TenantOf(*call); !tenant.ok()) return call->Fail(tenant.status());
                    const ServedModel& model = parts_.core.model();
                    if (absl::Status status = CheckModelName(call->request().model(), model); !status.ok())
                      return call->Fail(status);
                    if (absl::Status status = CheckPrompt(call->request().prompt(), model); !status.ok())
                      return call->Fail(status);
                    parts_.pool.Post([call, &model] {
                      const absl::StatusOr<std::vector<int32_t>> tokens = EncodePrompt(call->request().prompt(), model);
                      if (!tokens.ok()) return AnswerFromElsewhere(call, tokens.status());
                      v1::TokenizeResponse response;
                      response.mutable_token_ids()->Add(tokens->begin(), tokens->end());
                      AnswerFromElsewhere(call, std::move(response));
                    });
                  });
  server.AddUnary(inference_, &Service::RequestDetokenize,
                  [this](std::shared_ptr<UnaryCall<v1::DetokenizeRequest, v1::DetokenizeResponse>> call) {
                    if (const auto tenant = TenantOf(*call); !tenant.ok()) return call->Fail(tenant.status());
                    const v1::DetokenizeRequest& request = call->request();
                    const ServedModel& model = parts_.core.model();
                    absl::Status status = CheckModelName(request.model(), model);
                    status.Update(CheckTokens("token_ids", request.token_ids(), model));
                    if (!status.ok()) return call->Fail(status);
                    const bool skip_special = !request.has_skip_special_tokens() || request.skip_special_tokens();
                    v1::DetokenizeResponse response;
                    response.set_text(model.tokenizer->Decode(request.token_ids(), skip_special));
                    call->Finish(response);
                  });
  server.AddUnary(inference_, &Service::RequestEmbed, [this](std::shared_ptr<Embedder::Call> call) {
    if (const auto tenant = TenantOf(*call); !tenant.ok()) return call->Fail(tenant.status());
    parts_.embedder.Embed(std::move(call));
  });
}

void WorkerServices::AddSessions(rpc::Server& server) {
  using Service = v1::SessionService::AsyncService;
  server.Register(sessions_);
  server.AddUnary(sessions_, &Service::RequestGetSession,
                  [this](std::shared_ptr<UnaryCall<v1::GetSessionRequest, v1::GetSessionResponse>> call) {
                    const std::optional<session::SessionKey> key = KeyOf(*call);
                    if (!key.has_value()) return;
                    parts_.sessions.Get(*key,
                                        [this, call, session_id = key->session_id](absl::StatusOr<session::SessionInfo> info) {
                                          if (!info.ok()) return AnswerFromElsewhere(call, SessionError(info.status()));
                                          v1::GetSessionResponse response;
                                          response.set_session_id(session_id);
                                          response.set_position(info->position);
                                          response.set_version(info->version);
                                          response.set_busy(info->busy);
                                          response.set_durable(info->durable);
                                          response.set_worker_id(parts_.status.identity().worker_id);
                                          SetDuration(info->idle, response.mutable_idle());
                                          AnswerFromElsewhere(call, std::move(response));
                                        });
                  });
  server.AddUnary(sessions_, &Service::RequestCloseSession,
                  [this](std::shared_ptr<UnaryCall<v1::CloseSessionRequest, v1::CloseSessionResponse>> call) {
                    const std::optional<session::SessionKey> key = KeyOf(*call);
                    if (!key.has_value()) return;
                    parts_.sessions.Close(*key, [call](absl::StatusOr<bool> found) {
                      if (!found.ok()) return AnswerFromElsewhere(call, SessionError(found.status()));
                      v1::CloseSessionResponse response;
                      response.set_found(*found);
                      AnswerFromElsewhere(call, std::move(response));
                    });
                  });
  server.AddUnary(sessions_, &Service::RequestForkSession,
                  [this](std::shared_ptr<UnaryCall<v1::ForkSessionRequest, v1::ForkSessionResponse>> call) {
                    const std::optional<session::SessionKey> key = KeyOf(*call);
                    if (!key.has_value()) return;
                    const v1::ForkSessionRequest& request = call->request();
                    const std::optional<int64_t> position =
                        request.has_position() ? std::make_optional(request.position()) : std::nullopt;
                    parts_.sessions.Fork(*key, position, [call](absl::StatusOr<std::pair<std::string, int64_t>> child) {
                      if (!child.ok()) {
                        return AnswerFromElsewhere(call, SessionError(child.status()));
                      }
                      v1::ForkSessionResponse response;
                      response.set_session_id(child->first);
                      response.set_position(child->second);
                      AnswerFromElsewhere(call, std::move(response));
                    });
                  });
}

void WorkerServices::AddModels(rpc::Server& server) {
  using Service = v1::ModelService::AsyncService;
  server.Register(models_);
  server.AddUnary(models_, &Service::RequestListModels,
                  [this](std::shared_ptr<UnaryCall<v1::ListModelsRequest, v1::ListModelsResponse>> call) {
                    v1::ListModelsResponse response;
                    *response.add_models() = parts_.status.Model();
                    call->Finish(response);
                  });
  server.AddUnary(models_, &Service::RequestGetModel,
                  [this](std::shared_ptr<UnaryCall<v1::GetModelRequest, v1::GetModelResponse>> call) {
                    const absl::Status known = CheckModelName(call->request().name(), parts_.core.model());
                    if (!known.ok()) return call->Fail(known);
                    v1::GetModelResponse response;
                    *response.mutable_model() = parts_.status.Model();
                    call->Finish(response);
                  });
}

void WorkerServices::AddWorker(rpc::Server& server) {
  using Service = v1::WorkerService::AsyncService;
  server.Register(worker_);
  server.AddBidi(worker_, &Service::RequestAttach, [this](std::shared_ptr<Link::Call> call) {
    if (absl::Status status = CheckGateway(); !status.ok()) return call->Finish(status);
    parts_.links.Accept(std::move(call));
  });
  server.AddUnary(worker_, &Service::RequestGetWorkerInfo,
                  [this](std::shared_ptr<UnaryCall<v1::GetWorkerInfoRequest, v1::GetWorkerInfoResponse>> call) {
                    const WorkerIdentity& identity = parts_.status.identity();
                    v1::GetWorkerInfoResponse response;
                    response.set_worker_id(identity.worker_id);
                    *response.mutable_incarnation() = identity.incarnation;
                    *response.add_models() = parts_.status.Model();
                    *response.mutable_load() = parts_.status.Load(parts_.links.links());
                    response.set_journal_domain(parts_.status.journal_domain());
                    response.mutable_joined()->set_seconds(absl::ToUnixSeconds(identity.joined));
                    response.set_test_engine(identity.test_engine);
                    call->Finish(response);
                  });
  server.AddUnary(worker_, &Service::RequestHasSession,
                  [this](std::shared_ptr<UnaryCall<v1::HasSessionRequest, v1::HasSessionResponse>> call) {
                    if (absl::Status status = CheckGateway(); !status.ok()) return call->Fail(status);
                    const v1::HasSessionRequest& request = call->request();
                    if (parts_.serve_callers && !request.tenant().empty()) return call->Fail(CallersNotServed());
                    const session::SessionKey key{
                        .tenant = request.tenant(), .model = parts_.core.model().name, .session_id = request.session_id()};
                    const std::optional<absl::Duration> seen = parts_.core.IdleOf(request.tenant(), request.session_id());
                    const bool shared_journal = !parts_.status.journal_domain().empty();
                    parts_.sessions.Get(key, [call, seen, shared_journal](absl::StatusOr<session::SessionInfo> info) {
                      v1::HasSessionResponse response;
                      // A journal that others read too makes nobody the holder.
                      response.set_found(info.ok() && (info->held || !shared_journal));
                      if (!info.ok() && seen.has_value()) {
                        response.set_found(true);
                        SetDuration(*seen, response.mutable_idle());
                      } else if (info.ok()) {
                        response.set_version(info->version);
                        SetDuration(info->idle, response.mutable_idle());
                      } else if (!absl::StartsWith(info.status().message(), "SESSION_NOT_FOUND")) {
                        return AnswerFromElsewhere(call, SessionError(info.status()));
                      }
                      AnswerFromElsewhere(call, std::move(response));
                    });
                  });
}

AdminServices::AdminServices(Parts parts, rpc::Server& server) : parts_(std::move(parts)) {
  using Service = v1::AdminService::AsyncService;
  server.Register(admin_);
  server.AddServerStream(admin_, &Service::RequestDrain, [this](std::shared_ptr<DrainCall> call) {
    parts_.io.Post([this, call] {
      parts_.status.Drain();
      Report(call);
    });
  });
  server.AddUnary(admin_, &Service::RequestUndrain,
                  [this](std::shared_ptr<UnaryCall<v1::UndrainRequest, v1::UndrainResponse>> call) {
                    parts_.io.Post([this, call] {
                      parts_.status.Undrain();
                      v1::UndrainResponse response;
                      response.set_state(parts_.status.state());
                      call->shard().Post([call, response] { call->Finish(response); });
                    });
                  });
  server.AddUnary(admin_, &Service::RequestSetLogLevel,
                  [this](std::shared_ptr<UnaryCall<v1::SetLogLevelRequest, v1::SetLogLevelResponse>> call) {
                    const absl::Status status = parts_.set_log_level(call->request().level());
                    if (!status.ok()) return call->Fail(status);
                    call->Finish({});
                  });
  server.AddUnary(admin_, &Service::RequestListWorkers,
                  [](std::shared_ptr<UnaryCall<v1::ListWorkersRequest, v1::ListWorkersResponse>> call) {
                    call->Fail(absl::UnimplementedError("a worker knows no other workers"));
                  });
}

// On the I/O thread: one report now, and one each second until nothing runs.
void AdminServices::Report(const std::shared_ptr<DrainCall>& call) {
  v1::DrainResponse response;
  response.set_state(parts_.status.state());
  response.set_running(parts_.status.running());
  response.set_waiting(parts_.status.waiting());
  const bool over = response.state() != v1::WORKER_STATE_DRAINING || response.running() + response.waiting() == 0;
  call->shard().Post([this, call, response, over] {
    if (call->ended()) return;
    if (!call->writing()) {
      if (over) return call->WriteAndFinish(response);
      call->Write(response);
    }
    call->shard().After(absl::Seconds(1), [this, call] {
      if (!call->ended()) parts_.io.Post([this, call] { Report(call); });
    });
  });
}

}  // namespace berth::service
