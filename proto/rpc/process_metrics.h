#pragma once

#include <vector>

#include "prometheus/metric_family.h"

namespace berth::rpc {

// What every Prometheus client exports of its process, from /proc: process_cpu_seconds_total, process_resident_memory_bytes,
// process_open_fds, process_max_fds, process_threads, process_start_time_seconds; and berth_build_info. Thread-safe.
std::vector<prometheus::MetricFamily> CollectProcessMetrics();

}  // namespace berth::rpc
