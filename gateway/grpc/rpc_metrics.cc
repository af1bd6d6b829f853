#include "gateway/grpc/rpc_metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/relay/metrics.h"

namespace berth::gateway {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

std::string FullName(const char* service) { return absl::StrCat("berth.v1.", service); }

}  // namespace

RpcMetrics::RpcMetrics(prometheus::Registry& registry, const base::Clock& clock)
    : clock_(clock),
      started_(prometheus::BuildCounter().Name("grpc_server_started_total").Help("Calls that began.").Register(registry),
               {"grpc_service", "grpc_method"}),
      handled_(
          prometheus::BuildCounter().Name("grpc_server_handled_total").Help("Calls that ended, by code.").Register(registry),
          {"grpc_service", "grpc_method", "grpc_code"}),
      handling_(prometheus::BuildHistogram().Name("grpc_server_handling_seconds").Help("Duration of calls.").Register(registry),
                {"grpc_service", "grpc_method"}, Buckets{0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300}) {}

RpcMetrics::Call::Call(RpcMetrics& metrics, const char* service, const char* method)
    : metrics_(metrics), service_(service), method_(method), started_at_(metrics.clock_.Monotonic()) {
  metrics_.started_.Of({FullName(service), method}).Increment();
}

void RpcMetrics::Call::Ended(absl::StatusCode code) {
  if (std::exchange(ended_, true)) return;
  const std::string service = FullName(service_);
  metrics_.handling_.Of({service, method_}).Observe(absl::ToDoubleSeconds(age()));
  metrics_.handled_.Of({service, method_, relay::CodeName(code)}).Increment();
}

absl::Duration RpcMetrics::Call::age() const { return metrics_.clock_.Monotonic() - started_at_; }

}  // namespace berth::gateway
