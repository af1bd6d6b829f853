#include "proto/rpc/process_metrics.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "prometheus/client_metric.h"

namespace berth::rpc {
namespace {

using prometheus::MetricType;

prometheus::MetricFamily Family(const char* name, const char* help, MetricType type, double value) {
  prometheus::ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return {name, help, type, {std::move(metric)}};
}

// Fields of /proc/self/stat from the third on: those before may hold blanks.
std::vector<double> StatFields() {
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream rest(line.substr(std::min(line.size(), line.rfind(')') + 3)));
  std::vector<double> fields;
  for (double field; rest >> field;) fields.push_back(field);
  return fields;
}

double BootTimeSeconds() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return 0;
}

double OpenDescriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator all("/proc/self/fd", error);
  return static_cast<double>(std::distance(begin(all), end(all)));
}

// Unlike resident memory, without what the allocator keeps for later.
double AllocatedBytes() {
  const struct mallinfo2 heap = mallinfo2();
  return static_cast<double>(heap.uordblks + heap.hblkhd);
}

}  // namespace

std::vector<prometheus::MetricFamily> CollectProcessMetrics() {
  // Numbers of proc(5), less the three fields before the first.
  constexpr size_t kUserTime = 10, kSystemTime = 11, kThreads = 16, kStartTime = 18, kResidentPages = 20;
  std::vector<double> stat = StatFields();
  stat.resize(kResidentPages + 1);
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);

  std::vector<prometheus::MetricFamily> families = {
      Family("process_cpu_seconds_total", "User and system time.", MetricType::Counter,
             (stat[kUserTime] + stat[kSystemTime]) / ticks),
      Family("process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
             stat[kResidentPages] * static_cast<double>(sysconf(_SC_PAGESIZE))),
      Family("berth_allocated_bytes", "Memory that the program has allocated.", MetricType::Gauge, AllocatedBytes()),
      Family("process_open_fds", "Open file descriptors.", MetricType::Gauge, OpenDescriptors()),
      Family("process_max_fds", "Limit of open file descriptors.", MetricType::Gauge,
             static_cast<double>(descriptors.rlim_cur)),
      Family("process_threads", "Threads.", MetricType::Gauge, stat[kThreads]),
      Family("process_start_time_seconds", "Start, in Unix time.", MetricType::Gauge,
             BootTimeSeconds() + stat[kStartTime] / ticks),
  };
  prometheus::ClientMetric build;
  build.label = {{"version", BERTH_VERSION}};
  build.gauge.value = 1;
  families.push_back({"berth_build_info", "Always 1.", MetricType::Gauge, {std::move(build)}});
  return families;
}

}  // namespace berth::rpc
