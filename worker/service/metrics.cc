#include "worker/service/metrics.h"

#include <string>

#include "worker/engine/step_plan.h"

namespace berth::service {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

Buckets FirstTokenBuckets() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560};
}
// vLLM's, and finer ones below 10 ms.
Buckets TokenBuckets() {
  return {0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
          0.3,   0.4,    0.5,   0.75,  1,     2.5,    5,    7.5,   10,   20,    40,  80};
}
Buckets RequestBuckets() {
  return {0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
}
Buckets CountBuckets() { return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}; }

void RaiseTo(prometheus::Counter& counter, double value) {
  if (value > counter.Value()) counter.Increment(value - counter.Value());
}

void ObserveFinite(prometheus::Histogram& histogram, absl::Duration duration) {
  if (duration != absl::InfiniteDuration()) histogram.Observe(absl::ToDoubleSeconds(duration));
}

}  // namespace

prometheus::Counter& Metrics::MakeCounter(const char* name, const char* help, const prometheus::Labels& more) {
  return prometheus::BuildCounter().Name(name).Help(help).Labels(labels_).Register(registry_).Add(more);
}

prometheus::Gauge& Metrics::MakeGauge(const char* name, const char* help, const prometheus::Labels& more) {
  return prometheus::BuildGauge().Name(name).Help(help).Labels(labels_).Register(registry_).Add(more);
}

prometheus::Histogram& Metrics::MakeHistogram(const char* name, const char* help, const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Labels(labels_).Register(registry_).Add({}, buckets);
}

void Metrics::SetCertificateExpiry(absl::Time expiry) {
  if (expiry == absl::InfiniteFuture()) return;
  MakeGauge("berth_worker_tls_cert_expiry_timestamp_seconds", "When the certificate that gateways are shown expires.")
      .Set(static_cast<double>(absl::ToUnixSeconds(expiry)));
}

Metrics::Metrics(prometheus::Registry& registry, const std::string& model, const std::string& worker_id)
    : registry_(registry),
      labels_({{"model_name", model}, {"engine", "0"}}),
      running_(MakeGauge("vllm:num_requests_running", "Sequences that the engine computes.")),
      waiting_(MakeGauge("vllm:num_requests_waiting", "Requests that wait for the engine.")),
      cache_config_(prometheus::BuildGauge()
                        .Name("vllm:cache_config_info")
                        .Help("Always 1; the KV cache in its labels.")
                        .Labels(labels_)
                        .Register(registry_)),
      kv_usage_(MakeGauge("vllm:kv_cache_usage_perc", "Share of KV blocks that sequences hold, 0 to 1.")),
      prompt_tokens_(MakeCounter("vllm:prompt_tokens_total", "Prompt tokens processed.")),
      generation_tokens_(MakeCounter("vllm:generation_tokens_total", "Tokens generated.")),
      preemptions_(MakeCounter("vllm:num_preemptions_total", "Sequences put back to recompute them later.")),
      prefix_queries_(MakeCounter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.")),
      prefix_hits_(MakeCounter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.")),
      success_stop_(MakeCounter("vllm:request_success_total", "Requests that ended.", {{"finished_reason", "stop"}})),
      success_length_(MakeCounter("vllm:request_success_total", "Requests that ended.", {{"finished_reason", "length"}})),
      success_abort_(MakeCounter("vllm:request_success_total", "Requests that ended.", {{"finished_reason", "abort"}})),
      success_error_(MakeCounter("vllm:request_success_total", "Requests that ended.", {{"finished_reason", "error"}})),
      time_to_first_token_(MakeHistogram("vllm:time_to_first_token_seconds", "Arrival to first token.", FirstTokenBuckets())),
      inter_token_latency_(MakeHistogram("vllm:inter_token_latency_seconds", "Gap between tokens.", TokenBuckets())),
      time_per_output_token_(
          MakeHistogram("vllm:request_time_per_output_token_seconds", "Mean gap of a request.", TokenBuckets())),
      e2e_latency_(MakeHistogram("vllm:e2e_request_latency_seconds", "Arrival to end.", RequestBuckets())),
      queue_time_(MakeHistogram("vllm:request_queue_time_seconds", "Arrival to first step.", RequestBuckets())),
      prefill_time_(MakeHistogram("vllm:request_prefill_time_seconds", "First step to first token.", RequestBuckets())),
      decode_time_(MakeHistogram("vllm:request_decode_time_seconds", "First to last token.", RequestBuckets())),
      inference_time_(MakeHistogram("vllm:request_inference_time_seconds", "First step to end.", RequestBuckets())),
      request_prompt_tokens_(MakeHistogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", CountBuckets())),
      request_generation_tokens_(
          MakeHistogram("vllm:request_generation_tokens", "Output tokens of a request.", CountBuckets())),
      iteration_tokens_(
          MakeHistogram("vllm:iteration_tokens_total", "Tokens of prompts and output that a step computed.", CountBuckets())),
      rejected_(MakeCounter("berth_worker_rejected_total", "Requests refused for overload or drain.")),
      reattached_(MakeCounter("berth_worker_streams_reattached_total", "Streams taken up again after their link broke.")),
      frames_(MakeCounter("berth_worker_link_frames_total", "Frames sent over links.")),
      frame_events_(MakeCounter("berth_worker_link_events_total", "Events in those frames.")),
      steps_(MakeCounter("berth_worker_engine_steps_total", "Steps of the engine.")),
      host_time_(MakeCounter("berth_worker_engine_host_seconds_total", "Time spent on planning steps and queueing them.")),
      ring_full_(MakeCounter("berth_worker_ring_full_waits_total", "Steps after which the engine waited for the I/O thread.")),
      fenced_(MakeCounter("berth_worker_fenced_commits_total", "Turns that another worker had taken over.")),
      sessions_(MakeGauge("berth_worker_sessions_open", "Sessions in this process's memory.")),
      blocks_used_(MakeGauge("berth_worker_kv_blocks", "KV blocks by state.", {{"state", "used"}})),
      blocks_cached_(MakeGauge("berth_worker_kv_blocks", "KV blocks by state.", {{"state", "cached"}})),
      blocks_free_(MakeGauge("berth_worker_kv_blocks", "KV blocks by state.", {{"state", "free"}})),
      links_(MakeGauge("berth_worker_links", "Gateways attached.")),
      ready_(MakeGauge("berth_worker_ready", "1 while new requests are welcome.")),
      last_step_(
          MakeGauge("berth_worker_last_step_timestamp_seconds", "When the engine's last step ended; 0: there was none.")),
      state_(prometheus::BuildGauge()
                 .Name("berth_worker_state")
                 .Help("1 for the worker's state.")
                 .Labels(labels_)
                 .Register(registry_)) {
  MakeGauge("berth_worker_info", "Always 1.", {{"worker_id", worker_id}}).Set(1);
}

void Metrics::RecordRequest(const RequestRecord& record) {
  if (record.finished_reason == "stop") {
    success_stop_.Increment();
  } else if (record.finished_reason == "length") {
    success_length_.Increment();
  } else if (record.finished_reason == "abort") {
    success_abort_.Increment();
  } else {
    success_error_.Increment();
  }
  e2e_latency_.Observe(absl::ToDoubleSeconds(record.total));
  ObserveFinite(queue_time_, record.queue);
  ObserveFinite(prefill_time_, record.prefill);
  ObserveFinite(decode_time_, record.decode);
  if (record.queue != absl::InfiniteDuration()) ObserveFinite(inference_time_, record.total - record.queue);
  if (record.decode != absl::InfiniteDuration() && record.generated_tokens > 1) {
    time_per_output_token_.Observe(absl::ToDoubleSeconds(record.decode) / (record.generated_tokens - 1));
  }
  request_prompt_tokens_.Observe(record.prompt_tokens);
  request_generation_tokens_.Observe(record.generated_tokens);
}

void Metrics::Update(const Snapshot& snapshot) {
  const engine::EngineStats& engine = snapshot.engine;
  running_.Set(engine.running);
  waiting_.Set(engine.waiting + snapshot.preparing);
  cache_config_
      .Add({{"block_size", std::to_string(engine::kBlockTokens)}, {"num_gpu_blocks", std::to_string(engine.kv_blocks_total)}})
      .Set(1);
  kv_usage_.Set(engine.kv_blocks_total == 0 ? 0 : static_cast<double>(engine.kv_blocks_used) / engine.kv_blocks_total);
  RaiseTo(prompt_tokens_, static_cast<double>(engine.prompt_tokens));
  RaiseTo(generation_tokens_, static_cast<double>(engine.generated_tokens));
  RaiseTo(preemptions_, static_cast<double>(engine.preemptions));
  RaiseTo(prefix_queries_, static_cast<double>(engine.prompt_tokens));
  RaiseTo(prefix_hits_, static_cast<double>(engine.cached_prompt_tokens));
  RaiseTo(steps_, static_cast<double>(engine.steps));
  RaiseTo(host_time_, absl::ToDoubleSeconds(engine.host_time));
  RaiseTo(ring_full_, static_cast<double>(engine.ring_full_waits));
  RaiseTo(fenced_, static_cast<double>(snapshot.fenced_commits));
  sessions_.Set(snapshot.open_sessions);
  blocks_used_.Set(engine.kv_blocks_used);
  blocks_cached_.Set(engine.kv_blocks_cached);
  blocks_free_.Set(engine.kv_blocks_total - engine.kv_blocks_used - engine.kv_blocks_cached);
  ready_.Set(snapshot.ready ? 1 : 0);
  for (const char* state : kStates) state_.Add({{"state", state}}).Set(snapshot.state == state);
}

}  // namespace berth::service
