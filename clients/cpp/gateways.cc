#include "clients/cpp/gateways.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/rpc/channel.h"

namespace berth::client {

absl::StatusOr<std::unique_ptr<Gateways>> Gateways::Make(const ClientOptions& options) {
  if (options.gateways.empty()) return absl::InvalidArgumentError("the client is given no gateway");
  if (options.retry.attempts < 1) {
    return absl::InvalidArgumentError(absl::StrCat("retry.attempts is ", options.retry.attempts, ", want at least 1"));
  }
  BERTH_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, rpc::MakeChannelCredentials(options.tls));
  std::unique_ptr<Gateways> made(new Gateways);
  made->api_key_ = options.api_key;
  for (const std::string& address : options.gateways) {
    const std::shared_ptr<grpc::Channel> channel = rpc::MakeChannel(address, credentials);
    made->gateways_.push_back({.channel = channel,
                               .inference = v1::InferenceService::NewStub(channel),
                               .session = v1::SessionService::NewStub(channel)});
  }
  return made;
}

Gateways::Metadata Gateways::MetadataFor(const std::string& session_id) const {
  Metadata metadata;
  if (!api_key_.empty()) metadata.emplace_back("authorization", "Bearer " + api_key_);
  if (session_id.empty()) return metadata;
  base::MutexLock lock(mutex_);
  if (const std::string* hint = hints_.Find(session_id)) metadata.emplace_back("x-worker-hint", *hint);
  return metadata;
}

void Gateways::Note(const std::string& session_id, const v1::StreamGenerateResponse& message) {
  if (session_id.empty() || !(message.has_started() || message.has_resumed())) return;
  std::string hint = message.has_started()
                         ? absl::StrCat(message.started().worker_id(), "/", message.started().worker_incarnation())
                         : absl::StrCat(message.resumed().worker_id(), "/", message.resumed().worker_incarnation());
  base::MutexLock lock(mutex_);
  hints_.Set(session_id, std::move(hint));
}

}  // namespace berth::client
