#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "prometheus/registry.h"

namespace berth::rpc {

// First line of every main: gRPC aborts otherwise when Debian's Abseil suspects a lock cycle. Also ignores SIGPIPE,
// and silences gRPC's own log unless GRPC_VERBOSITY asks for it.
void InitProcess();

// SIGINT and SIGTERM as a notification. Made before any other thread, so that all of them block these signals. A second signal
// ends the process at once.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  void Wait() const { notification_.Wait(); }
  // As if a signal had come. Thread-safe.
  void Trigger();

 private:
  void Watch();

  base::Notification notification_;
  std::thread thread_;
};

// Asks the kernel to send SIGTERM when the parent process dies. False when it is dead already.
bool TerminateWithParent();

// Of spdlog: "debug", "info", "warn" or "error". INVALID_ARGUMENT for another.
absl::Status SetLogLevel(const std::string& level);

// The registry and the process's own metrics in Prometheus' text format.
std::string SerializeMetrics(const prometheus::Registry& registry);

}  // namespace berth::rpc
