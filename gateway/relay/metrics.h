#pragma once

#include <array>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "gateway/relay/series.h"
#include "gateway/routing/cluster_view.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace berth::relay {

// What the gateway counts, under berth_gateway_*. No label holds a session, a request or a caller's text. Outlived by its
// registry. Thread-safe.
class GatewayMetrics {
 public:
  explicit GatewayMetrics(prometheus::Registry& registry);

  // A generation ended. `method` is an rpc or an HTTP path; `code` a canonical code's name.
  void RequestEnded(std::string_view method, std::string_view model, std::string_view code, absl::Duration duration);
  // `policy` is session, prefix or least_loaded.
  void Routed(std::string_view policy, std::string_view outcome);
  // A session's request went to another worker: "scale", "overload", "drain", "slow" or "death".
  void SessionMoved(std::string_view reason);
  // A request was refused for want of room, `age` after it came: at once ("queue_full", or "deadline": it could not end in
  // time), or after it had waited ("displaced" by one of a higher priority, "late" for its deadline, "queue_timeout").
  void Shed(std::string_view reason, int priority, absl::Duration age);
  // Refused by its limits. Beyond the first thousand tenants' names they count as "other".
  void RateLimited(const std::string& tenant);
  // Of the certificate that "callers" or "workers" are shown; no series without one.
  void SetCertificateExpiry(std::string_view shown_to, absl::Time expiry);
  void FailedOver(bool mid_stream, bool ok);
  // A request was sent again before its first token: "worker_lost", "unavailable" or "draining".
  void Retried(std::string_view reason);
  void CircuitChanged(const routing::WorkerView& worker, routing::Circuit to);
  // `now` is base::Clock::Monotonic.
  void SetWorker(const routing::WorkerView& worker, absl::Duration now);
  // Its gauges are shown no more.
  void RemoveWorker(const std::string& worker_id);
  // Workers' addresses, keys or certificates were read again, or were no good.
  void ConfigReloaded(bool ok);
  // Requests of low, normal and high priority.
  void SetQueueDepth(const std::array<int, 3>& depths);

  prometheus::Histogram& time_to_first_token;
  // Between two batches of one stream's tokens.
  prometheus::Histogram& inter_token_latency;
  prometheus::Histogram& queue_wait;
  // From a stream's last tokens of a lost worker to the first of the next.
  prometheus::Histogram& failover_gap;
  // Phases of what the gateway adds: placing a request, and handing a worker's frame on to the callers.
  prometheus::Histogram& overhead_route;
  prometheus::Histogram& overhead_forward;
  prometheus::Counter& slow_client_aborts;
  // Bytes that a caller left unread, whenever it left some; beyond the limit it is given up.
  prometheus::Histogram& unread_bytes;

 private:
  // Of one worker: they are set for every stream that begins or ends there.
  struct WorkerGauges {
    prometheus::Gauge *up, *streams_open, *circuit_state;
    std::array<prometheus::Gauge*, 4> states;
  };

  WorkerGauges& GaugesOf(const std::string& worker_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Series<prometheus::Counter> requests_;
  Series<prometheus::Histogram> duration_;
  Series<prometheus::Counter> routed_;
  prometheus::Family<prometheus::Counter>& moved_;
  prometheus::Family<prometheus::Counter>& shed_;
  prometheus::Family<prometheus::Histogram>& shed_seconds_;
  prometheus::Family<prometheus::Counter>& rate_limited_;
  prometheus::Family<prometheus::Counter>& failovers_;
  prometheus::Family<prometheus::Gauge>& streams_open_;
  prometheus::Family<prometheus::Gauge>& worker_up_;
  prometheus::Family<prometheus::Gauge>& worker_state_;
  std::array<prometheus::Gauge*, 3> queue_depth_;  // by priority class
  prometheus::Family<prometheus::Gauge>& certificate_expiry_;
  prometheus::Family<prometheus::Counter>& retries_;
  prometheus::Family<prometheus::Counter>& config_reloads_;
  prometheus::Family<prometheus::Gauge>& circuit_state_;
  prometheus::Family<prometheus::Counter>& circuit_transitions_;
  base::Mutex mutex_;
  absl::flat_hash_set<std::string> tenants_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, WorkerGauges> workers_ ABSL_GUARDED_BY(mutex_);
};

// The name of a canonical code, as metrics and errors spell it: "OK", "INVALID_ARGUMENT", …
std::string CodeName(absl::StatusCode code);

}  // namespace berth::relay
