#include "proto/rpc/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "grpc/support/log.h"
#include "prometheus/text_serializer.h"
#include "proto/rpc/process_metrics.h"
#include "proto/rpc/status.h"
#include "spdlog/spdlog.h"

namespace berth::rpc {
namespace {

sigset_t ShutdownSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR2);  // ends the watching thread
  return set;
}

}  // namespace

void InitProcess() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  signal(SIGPIPE, SIG_IGN);
  if (getenv("GRPC_VERBOSITY") != nullptr) return;
  // What gRPC logs by itself repeats the statuses that it returns, its last words excepted.
  gpr_set_log_function([](gpr_log_func_args* line) {
    if (strstr(line->message, "assertion failed") != nullptr)
      fprintf(stderr, "%s:%d %s\n", line->file, line->line, line->message);
  });
}

ShutdownSignal::ShutdownSignal() {
  const sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { Watch(); });
}

ShutdownSignal::~ShutdownSignal() {
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
}

void ShutdownSignal::Trigger() { notification_.Notify(); }

void ShutdownSignal::Watch() {
  const sigset_t set = ShutdownSignals();
  for (bool first = true;; first = false) {
    int number = 0;
    sigwait(&set, &number);
    if (number == SIGUSR2) return;
    if (!first) _exit(128 + number);
    notification_.Notify();
  }
}

bool TerminateWithParent() {
  const pid_t parent = getppid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  return getppid() == parent && parent != 1;
}

absl::Status SetLogLevel(const std::string& level) {
  if (level != "debug" && level != "info" && level != "warn" && level != "error") {
    return FieldError("level", absl::StrCat("is \"", level, "\", want debug, info, warn or error"));
  }
  spdlog::set_level(spdlog::level::from_str(level));
  return absl::OkStatus();
}

std::string SerializeMetrics(const prometheus::Registry& registry) {
  std::vector<prometheus::MetricFamily> families = registry.Collect();
  for (prometheus::MetricFamily& family : CollectProcessMetrics()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace berth::rpc
