#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_caller.h"
#include "clients/cpp/async_client.h"
#include "proto/rpc/shard.h"

namespace berth::cli {
namespace {

constexpr std::chrono::seconds kConnectPatience(20);

v1::GenerationSpec SpecOf(const BenchAsk& ask, const std::string& model) {
  v1::GenerationSpec spec;
  spec.set_model(model);
  spec.set_session_id(ask.session_id);
  if (ask.messages.empty()) {
    spec.mutable_prompt()->mutable_token_ids()->mutable_ids()->Assign(ask.ids.begin(), ask.ids.end());
  }
  for (const BenchAsk::Message& said : ask.messages) {
    v1::ChatMessage& message = *spec.mutable_prompt()->mutable_chat()->add_messages();
    message.set_role(said.role);
    message.set_content(said.content);
  }
  spec.mutable_sampling()->set_temperature(0);
  spec.mutable_stop()->set_max_tokens(ask.output);
  spec.mutable_stop()->set_ignore_eos(true);
  spec.mutable_output()->set_token_ids(true);
  return spec;
}

class GrpcCaller : public BenchCaller {
 public:
  GrpcCaller(std::string model, std::unique_ptr<client::Gateways> gateways)
      : model_(std::move(model)),
        shard_(std::make_unique<grpc::CompletionQueue>()),
        client_(std::move(gateways), {.attempts = 1}, shard_) {
    shard_.Start();
  }

  void Post(absl::AnyInvocable<void()> function) override { shard_.Post(std::move(function)); }
  void After(absl::Duration delay, absl::AnyInvocable<void()> function) override { shard_.After(delay, std::move(function)); }

  void Start(const BenchAsk& ask, absl::AnyInvocable<void(const BenchPart&)> on_part,
             absl::AnyInvocable<void(const absl::Status&)> on_end) override {
    client_.Start(
        SpecOf(ask, model_), absl::InfiniteDuration(),
        [on_part = std::move(on_part)](const v1::StreamGenerateResponse& message) mutable {
          const v1::Usage& usage = message.finished().usage();
          on_part({.tokens = message.delta().token_ids_size(),
                   .text = message.delta().text(),
                   .prompt_tokens = usage.prompt_tokens(),
                   .cached_tokens = usage.cached_tokens(),
                   .output_tokens = usage.completion_tokens()});
        },
        std::move(on_end));
  }

 private:
  const std::string model_;
  rpc::Shard shard_;
  client::AsyncClient client_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchCaller>> MakeGrpcCaller(const BenchTarget& target) {
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<client::Gateways> gateways,
                         client::Gateways::Make({.gateways = {target.server}, .api_key = target.api_key}));
  if (!gateways->channel(0).WaitForConnected(std::chrono::system_clock::now() + kConnectPatience)) {
    return absl::UnavailableError(absl::StrCat("no connection to ", target.server, " within ", kConnectPatience.count(), " s"));
  }
  return std::make_unique<GrpcCaller>(target.model, std::move(gateways));
}

}  // namespace berth::cli
