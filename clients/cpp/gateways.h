#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/lru_map.h"
#include "base/mutex.h"
#include "clients/cpp/progress.h"
#include "grpcpp/channel.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/tls.h"

namespace berth::client {

struct ClientOptions {
  // host:port of the gRPC APIs of one cluster's gateways. One that is named twice gets two connections.
  std::vector<std::string> gateways;
  std::string api_key;  // empty: none
  rpc::TlsOptions tls;
  RetryOptions retry;
};

// The connections of a client, and where its sessions ran last: told to gateways as a hint, which they verify. Thread-safe.
class Gateways {
 public:
  using Metadata = std::vector<std::pair<std::string, std::string>>;

  // INVALID_ARGUMENT without a gateway, or as rpc::CheckTlsFiles.
  static absl::StatusOr<std::unique_ptr<Gateways>> Make(const ClientOptions& options);

  int size() const { return static_cast<int>(gateways_.size()); }
  // For the next generation; its further attempts take the ones after it.
  int TakeTurn() { return turn_++ % gateways_.size(); }
  v1::InferenceService::Stub& inference(int index) { return *gateways_[index % gateways_.size()].inference; }
  v1::SessionService::Stub& session(int index) { return *gateways_[index % gateways_.size()].session; }
  grpc::Channel& channel(int index) { return *gateways_[index].channel; }

  Metadata MetadataFor(const std::string& session_id) const;
  void Note(const std::string& session_id, const v1::StreamGenerateResponse& message);

 private:
  struct Gateway {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::InferenceService::Stub> inference;
    std::unique_ptr<v1::SessionService::Stub> session;
  };

  Gateways() = default;

  std::vector<Gateway> gateways_;
  std::string api_key_;
  std::atomic<unsigned> turn_ = 0;
  mutable base::Mutex mutex_;
  base::LruMap<std::string, std::string> hints_ ABSL_GUARDED_BY(mutex_){size_t{1} << 14};
};

}  // namespace berth::client
