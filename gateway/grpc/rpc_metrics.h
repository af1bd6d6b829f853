#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "gateway/relay/series.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace berth::gateway {

// grpc_server_started_total, grpc_server_handled_total and grpc_server_handling_seconds. Thread-safe.
class RpcMetrics {
 public:
  RpcMetrics(prometheus::Registry& registry, const base::Clock& clock);

  // One call, from its start to its end. A call that is dropped without an end counts as CANCELLED.
  class Call {
   public:
    // `service` without its package's version: "InferenceService"; both names are literals.
    Call(RpcMetrics& metrics, const char* service, const char* method);
    ~Call() { Ended(absl::StatusCode::kCancelled); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    // The first end counts.
    void Ended(absl::StatusCode code);
    absl::Duration age() const;

   private:
    RpcMetrics& metrics_;
    const char* const service_;
    const char* const method_;
    const absl::Duration started_at_;
    bool ended_ = false;
  };

 private:
  const base::Clock& clock_;
  relay::Series<prometheus::Counter> started_, handled_;
  relay::Series<prometheus::Histogram> handling_;
};

}  // namespace berth::gateway
