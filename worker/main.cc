#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "proto/rpc/process.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#include "worker/options.h"
#include "worker/worker.h"

namespace {

// What a supervisor can tell apart; 1 is everything else.
constexpr int kDeviceFault = 3;     // the device failed while it served
constexpr int kDeviceUnusable = 4;  // no device, or one that is too old, or its driver
constexpr int kOutOfMemory = 5;     // the model or one sequence does not fit

int ExitCode(const absl::Status& status) {
  if (absl::IsFailedPrecondition(status)) return kDeviceUnusable;
  return absl::IsResourceExhausted(status) ? kOutOfMemory : 1;
}

}  // namespace

int main(int argc, char** argv) {
  berth::rpc::InitProcess();
  berth::worker::WorkerOptions options;
  bool done = false;
  if (const int code = berth::worker::ParseOptions(argc, argv, &options, &done); done) return code;
  if (const char* socket = std::getenv("NOTIFY_SOCKET")) options.notify_socket = socket;
  spdlog::set_default_logger(spdlog::stderr_logger_mt("worker"));
  berth::rpc::ShutdownSignal signal;
  if (options.parent_watch && !berth::rpc::TerminateWithParent()) return 1;

  std::atomic<bool> faulted = false;
  auto worker = berth::worker::Worker::Start(options, [&] {
    faulted = true;
    signal.Trigger();
  });
  if (!worker.ok()) {
    std::fprintf(stderr, "berth-worker: %s\n", std::string(worker.status().message()).c_str());
    return ExitCode(worker.status());
  }
  std::printf("%s\n", (*worker)->ReadyLine().c_str());
  std::fflush(stdout);
  signal.Wait();
  if (!(*worker)->Stop()) _exit(kDeviceFault);
  return faulted ? kDeviceFault : 0;
}
