#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "worker/engine/step_ring.h"

namespace berth::service {

// A finished request, as the histograms see it.
struct RequestRecord {
  std::string finished_reason;  // "stop", "length", "abort" or "error"
  int prompt_tokens = 0;
  int generated_tokens = 0;
  absl::Duration queue, prefill, decode, total;  // infinite: it did not come so far
};

// What a worker exports: the vllm: names that dashboards and autoscalers read, and berth_worker_*. Thread-safe.
class Metrics {
 public:
  Metrics(prometheus::Registry& registry, const std::string& model, const std::string& worker_id);

  void RecordFirstToken(absl::Duration since_arrival) { time_to_first_token_.Observe(absl::ToDoubleSeconds(since_arrival)); }
  void RecordInterToken(absl::Duration gap) { inter_token_latency_.Observe(absl::ToDoubleSeconds(gap)); }
  void RecordRequest(const RequestRecord& record);
  // A step ended, with so many tokens of prompts and output.
  void RecordStep(int tokens, absl::Time now) {
    iteration_tokens_.Observe(tokens);
    last_step_.Set(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
  }
  // Of the certificate that gateways are shown; no series without one. Any thread.
  void SetCertificateExpiry(absl::Time expiry);
  void CountRejected() { rejected_.Increment(); }
  void CountReattached() { reattached_.Increment(); }
  void CountFrame(size_t events) {
    frames_.Increment();
    frame_events_.Increment(static_cast<double>(events));
  }

  void SetLinks(int links) { links_.Set(links); }

  static constexpr std::array<const char*, 4> kStates = {"starting", "ready", "draining", "unhealthy"};
  struct Snapshot {
    engine::EngineStats engine;
    int preparing = 0;
    int open_sessions = 0;
    uint64_t fenced_commits = 0;
    bool ready = false;
    std::string state;  // one of kStates
  };
  // Brings gauges and counters up to the snapshot; before each scrape.
  void Update(const Snapshot& snapshot);

 private:
  using Registry = prometheus::Registry;
  prometheus::Counter& MakeCounter(const char* name, const char* help, const prometheus::Labels& more = {});
  prometheus::Gauge& MakeGauge(const char* name, const char* help, const prometheus::Labels& more = {});
  prometheus::Histogram& MakeHistogram(const char* name, const char* help,
                                       const prometheus::Histogram::BucketBoundaries& buckets);

  Registry& registry_;
  const prometheus::Labels labels_;
  prometheus::Gauge &running_, &waiting_;
  prometheus::Family<prometheus::Gauge>& cache_config_;
  prometheus::Gauge& kv_usage_;
  prometheus::Counter &prompt_tokens_, &generation_tokens_, &preemptions_, &prefix_queries_, &prefix_hits_;
  prometheus::Counter &success_stop_, &success_length_, &success_abort_, &success_error_;
  prometheus::Histogram &time_to_first_token_, &inter_token_latency_, &time_per_output_token_, &e2e_latency_, &queue_time_,
      &prefill_time_, &decode_time_, &inference_time_, &request_prompt_tokens_, &request_generation_tokens_, &iteration_tokens_;
  prometheus::Counter &rejected_, &reattached_, &frames_, &frame_events_, &steps_, &host_time_, &ring_full_, &fenced_;
  prometheus::Gauge &sessions_, &blocks_used_, &blocks_cached_, &blocks_free_, &links_, &ready_, &last_step_;
  prometheus::Family<prometheus::Gauge>& state_;
};

}  // namespace berth::service
