#include "gateway/grpc/rpc_metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/relay/metrics.h"

namespace berth::gateway {
namespace {

prometheus::Labels LabelsOf(const char* service, const char* method) {
  return {{"grpc_service", absl::StrCat("berth.v1.", service)}, {"grpc_method", method}};
}

}  // namespace

RpcMetrics::RpcMetrics(prometheus::Registry& registry, const base::Clock& clock)
    : clock_(clock),
      started_(prometheus::BuildCounter().Name("grpc_server_started_total").Help("Calls that began.").Register(registry)),
      handled_(
          prometheus::BuildCounter().Name("grpc_server_handled_total").Help("Calls that ended, by code.").Register(registry)),
      handling_(
          prometheus::BuildHistogram().Name("grpc_server_handling_seconds").Help("Duration of calls.").Register(registry)) {}

RpcMetrics::Call::Call(RpcMetrics& metrics, const char* service, const char* method)
    : metrics_(metrics), service_(service), method_(method), started_at_(metrics.clock_.Monotonic()) {
  metrics_.started_.Add(LabelsOf(service, method)).Increment();
}

void RpcMetrics::Call::Ended(absl::StatusCode code) {
  if (std::exchange(ended_, true)) return;
  prometheus::Labels labels = LabelsOf(service_, method_);
  metrics_.handling_.Add(labels, prometheus::Histogram::BucketBoundaries{0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300})
      .Observe(absl::ToDoubleSeconds(age()));
  labels["grpc_code"] = relay::CodeName(code);
  metrics_.handled_.Add(labels).Increment();
}

absl::Duration RpcMetrics::Call::age() const { return metrics_.clock_.Monotonic() - started_at_; }

}  // namespace berth::gateway
