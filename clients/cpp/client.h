#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "clients/cpp/gateways.h"
#include "grpcpp/client_context.h"

namespace berth::client {

// Generations and sessions of a cluster, for programs that wait for their answers. A generation whose gateway or connection
// breaks goes on through the next gateway, where it stopped; one that is refused for a while is tried again. Errors are the
// last attempt's. Thread-safe.
class Client {
 public:
  static constexpr absl::Duration kAskTimeout = absl::Seconds(30);  // of calls that only ask something

  static absl::StatusOr<std::unique_ptr<Client>> Make(const ClientOptions& options);

  // Runs `generation` to its end; `on_message` hears of every message once, in order of `seq`, on this thread. A caller that
  // is slow slows the server down. DEADLINE_EXCEEDED after `timeout`, all attempts included.
  absl::Status Generate(const v1::GenerationSpec& generation,
                        const std::function<void(v1::StreamGenerateResponse&)>& on_message,
                        absl::Duration timeout = absl::InfiniteDuration());
  // Ends a request that runs anywhere; its stream still ends as the server says. Whether it was found. DEADLINE_EXCEEDED after
  // `timeout`, all gateways included, as CloseSession.
  absl::StatusOr<bool> Cancel(const v1::CancelRequest& request, absl::Duration timeout = kAskTimeout);
  // Ends a generation of this client at once, CANCELLED. No effect when none of this id runs.
  void Abandon(const std::string& request_id);
  absl::StatusOr<v1::CloseSessionResponse> CloseSession(const v1::CloseSessionRequest& request,
                                                        absl::Duration timeout = kAskTimeout);

 private:
  // A generation that runs.
  struct Running {
    grpc::ClientContext* context = nullptr;  // of its attempt; null between two
    bool abandoned = false;
  };

  explicit Client(std::unique_ptr<Gateways> gateways, const RetryOptions& retry)
      : gateways_(std::move(gateways)), retry_(retry) {}

  absl::Status Attempt(Progress& progress, Running& running, int gateway, absl::Time deadline,
                       const std::function<void(v1::StreamGenerateResponse&)>& on_message);
  // False when the generation was abandoned or its deadline passes first.
  bool Wait(Running& running, absl::Duration delay, absl::Time deadline);
  // One gateway after the other, while they are not there.
  template <typename Request, typename Response, typename Call>
  absl::StatusOr<Response> Ask(const Request& request, absl::Duration timeout, const Call& call);

  const std::unique_ptr<Gateways> gateways_;
  const RetryOptions retry_;
  base::Mutex mutex_;
  base::CondVar changed_;
  std::multimap<std::string, Running*> running_ ABSL_GUARDED_BY(mutex_);  // by request id
};

}  // namespace berth::client
