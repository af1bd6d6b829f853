#include "gateway/relay/metrics.h"

#include <algorithm>
#include <cctype>

#include "gateway/admission/waiting_queue.h"

namespace berth::relay {
namespace {

constexpr std::array<const char*, 3> kPriorities = {"low", "normal", "high"};
constexpr size_t kMaxTenants = 1000;

using Buckets = prometheus::Histogram::BucketBoundaries;

Buckets LatencyBuckets() {
  return {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
}

Buckets OverheadBuckets() { return {1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 1e-1}; }

prometheus::Family<prometheus::Histogram>& HistogramFamily(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Counter>& CounterFamily(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Gauge>& GaugeFamily(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

prometheus::Histogram& Overhead(prometheus::Registry& registry, const char* phase) {
  return HistogramFamily(registry, "berth_gateway_overhead_seconds", "Time the gateway itself adds, by phase.")
      .Add({{"phase", phase}}, OverheadBuckets());
}

constexpr std::array<v1::WorkerState, 4> kStates = {v1::WORKER_STATE_STARTING, v1::WORKER_STATE_READY,
                                                    v1::WORKER_STATE_DRAINING, v1::WORKER_STATE_UNHEALTHY};

// "READY", …: the enum's name without its prefix.
std::string StateName(v1::WorkerState state) {
  std::string name = v1::WorkerState_Name(state).substr(sizeof("WORKER_STATE_") - 1);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

}  // namespace

GatewayMetrics::GatewayMetrics(prometheus::Registry& registry)
    : time_to_first_token(HistogramFamily(registry, "berth_gateway_time_to_first_token_seconds",
                                          "From a generation's arrival to its first output.")
                              .Add({}, LatencyBuckets())),
      inter_token_latency(
          HistogramFamily(registry, "berth_gateway_inter_token_latency_seconds", "Between two batches of tokens of one stream.")
              .Add({}, LatencyBuckets())),
      queue_wait(
          HistogramFamily(registry, "berth_gateway_queue_wait_seconds", "Wait for room at a worker, of requests that waited.")
              .Add({}, LatencyBuckets())),
      failover_gap(HistogramFamily(registry, "berth_gateway_failover_gap_seconds",
                                   "From a stream's last tokens of a lost worker to the first of the next.")
                       .Add({}, LatencyBuckets())),
      overhead_route(Overhead(registry, "route")),
      overhead_forward(Overhead(registry, "forward")),
      slow_client_aborts(
          CounterFamily(registry, "berth_gateway_slow_client_aborts_total", "Streams ended because their caller did not read.")
              .Add({})),
      unread_bytes(HistogramFamily(registry, "berth_gateway_unread_bytes", "What callers left unread, whenever they left some.")
                       .Add({}, Buckets{1 << 10, 4 << 10, 16 << 10, 64 << 10})),
      requests_(CounterFamily(registry, "berth_gateway_requests_total", "Generations that ended, by method, model and code."),
                {"method", "model", "code"}),
      duration_(HistogramFamily(registry, "berth_gateway_request_duration_seconds", "From a generation's arrival to its end."),
                {"method"}, LatencyBuckets()),
      routed_(CounterFamily(registry, "berth_gateway_routing_decisions_total", "Placements by policy and outcome."),
              {"policy", "outcome"}),
      moved_(CounterFamily(registry, "berth_gateway_affinity_moves_total",
                           "Requests of sessions that went to another worker than before, by reason.")),
      shed_(CounterFamily(registry, "berth_gateway_shed_total", "Requests refused for want of room, by reason and priority.")),
      shed_seconds_(HistogramFamily(registry, "berth_gateway_shed_seconds",
                                    "From a generation's arrival to its refusal for want of room, by reason.")),
      rate_limited_(CounterFamily(registry, "berth_gateway_rate_limited_total", "Requests refused by their tenant's limits.")),
      failovers_(
          CounterFamily(registry, "berth_gateway_failovers_total", "Streams taken to another worker, by phase and result.")),
      streams_open_(GaugeFamily(registry, "berth_gateway_streams_open", "Generations of this gateway at each worker.")),
      worker_up_(GaugeFamily(registry, "berth_gateway_worker_up", "1 while the link to the worker stands.")),
      worker_state_(GaugeFamily(registry, "berth_gateway_worker_state", "1 for the state that the worker reports.")),
      certificate_expiry_(GaugeFamily(registry, "berth_gateway_tls_cert_expiry_timestamp_seconds",
                                      "When the certificate that callers or workers are shown expires.")),
      retries_(
          CounterFamily(registry, "berth_gateway_retries_total", "Requests sent again before their first token, by reason.")),
      config_reloads_(CounterFamily(registry, "berth_gateway_config_reloads_total",
                                    "Workers' addresses, keys or certificates that were read again, by result.")),
      circuit_state_(GaugeFamily(registry, "berth_gateway_circuit_state",
                                 "0 closed, 1 half-open, 2 open: the worker's faults keep work from it.")),
      circuit_transitions_(
          CounterFamily(registry, "berth_gateway_circuit_transitions_total", "Changes of the circuit's state.")) {
  auto& queue_depth = GaugeFamily(registry, "berth_gateway_queue_depth", "Requests waiting for room, by priority class.");
  for (size_t i = 0; i < kPriorities.size(); ++i) queue_depth_[i] = &queue_depth.Add({{"priority", kPriorities[i]}});
}

void GatewayMetrics::RequestEnded(std::string_view method, std::string_view model, std::string_view code,
                                  absl::Duration duration) {
  requests_.Of({method, model, code}).Increment();
  duration_.Of({method}).Observe(absl::ToDoubleSeconds(duration));
}

void GatewayMetrics::Routed(std::string_view policy, std::string_view outcome) { routed_.Of({policy, outcome}).Increment(); }

void GatewayMetrics::SessionMoved(std::string_view reason) { moved_.Add({{"reason", std::string(reason)}}).Increment(); }

void GatewayMetrics::Shed(std::string_view reason, int priority, absl::Duration age) {
  shed_seconds_.Add({{"reason", std::string(reason)}}, OverheadBuckets()).Observe(absl::ToDoubleSeconds(age));
  shed_.Add({{"reason", std::string(reason)}, {"priority", kPriorities[admission::PriorityClass(priority)]}}).Increment();
}

void GatewayMetrics::RateLimited(const std::string& tenant) {
  base::MutexLock lock(mutex_);
  const bool known = tenants_.contains(tenant) || (tenants_.size() < kMaxTenants && tenants_.insert(tenant).second);
  rate_limited_.Add({{"tenant", known ? tenant : "other"}}).Increment();
}

void GatewayMetrics::SetCertificateExpiry(std::string_view shown_to, absl::Time expiry) {
  if (expiry == absl::InfiniteFuture()) return;
  certificate_expiry_.Add({{"shown_to", std::string(shown_to)}}).Set(static_cast<double>(absl::ToUnixSeconds(expiry)));
}

void GatewayMetrics::FailedOver(bool mid_stream, bool ok) {
  failovers_.Add({{"phase", mid_stream ? "mid_stream" : "before_first_token"}, {"result", ok ? "ok" : "failed"}}).Increment();
}

void GatewayMetrics::Retried(std::string_view reason) { retries_.Add({{"reason", std::string(reason)}}).Increment(); }

void GatewayMetrics::CircuitChanged(const routing::WorkerView& worker, routing::Circuit to) {
  constexpr std::array<const char*, 3> kNames = {"closed", "half_open", "open"};
  circuit_transitions_.Add({{"worker", worker.address.id}, {"to", kNames[static_cast<int>(to)]}}).Increment();
}

GatewayMetrics::WorkerGauges& GatewayMetrics::GaugesOf(const std::string& worker_id) {
  const auto [entry, fresh] = workers_.try_emplace(worker_id);
  WorkerGauges& gauges = entry->second;
  if (!fresh) return gauges;
  const prometheus::Labels worker = {{"worker", worker_id}};
  gauges.up = &worker_up_.Add(worker);
  gauges.streams_open = &streams_open_.Add(worker);
  gauges.circuit_state = &circuit_state_.Add(worker);
  for (size_t i = 0; i < kStates.size(); ++i) {
    gauges.states[i] = &worker_state_.Add({{"worker", worker_id}, {"state", StateName(kStates[i])}});
  }
  return gauges;
}

void GatewayMetrics::SetWorker(const routing::WorkerView& worker, absl::Duration now) {
  const bool up = worker.link == routing::LinkState::kUp;
  base::MutexLock lock(mutex_);
  WorkerGauges& gauges = GaugesOf(worker.address.id);
  gauges.circuit_state->Set(static_cast<double>(worker.circuit(now)));
  gauges.up->Set(up);
  gauges.streams_open->Set(worker.open_streams);
  for (size_t i = 0; i < kStates.size(); ++i) gauges.states[i]->Set(up && worker.load.state() == kStates[i]);
}

void GatewayMetrics::ConfigReloaded(bool ok) { config_reloads_.Add({{"result", ok ? "ok" : "error"}}).Increment(); }

void GatewayMetrics::RemoveWorker(const std::string& worker_id) {
  base::MutexLock lock(mutex_);
  const auto found = workers_.find(worker_id);
  if (found == workers_.end()) return;
  worker_up_.Remove(found->second.up);
  streams_open_.Remove(found->second.streams_open);
  circuit_state_.Remove(found->second.circuit_state);
  for (prometheus::Gauge* state : found->second.states) worker_state_.Remove(state);
  workers_.erase(found);
}

void GatewayMetrics::SetQueueDepth(const std::array<int, 3>& depths) {
  for (size_t i = 0; i < depths.size(); ++i) queue_depth_[i]->Set(depths[i]);
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

}  // namespace berth::relay
