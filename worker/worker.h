#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "prometheus/registry.h"
#include "proto/rpc/api_keys.h"
#include "proto/rpc/files.h"
#include "proto/rpc/health.h"
#include "proto/rpc/http_listener.h"
#include "proto/rpc/reflection.h"
#include "proto/rpc/server.h"
#include "worker/backend.h"
#include "worker/engine/engine.h"
#include "worker/options.h"
#include "worker/service/generation_core.h"
#include "worker/service/link.h"
#include "worker/service/metrics.h"
#include "worker/service/services.h"
#include "worker/service/step_pump.h"
#include "worker/service/tokenizer_pool.h"
#include "worker/service/worker_status.h"
#include "worker/session/session_store.h"
#include "worker/watchdog.h"

namespace berth::worker {

// One worker process, wired up. Thread: main's.
class Worker {
 public:
  // Serves when it returns. `on_fault` runs once, on some thread, when the device failed: the process is to end.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(const WorkerOptions& options, std::function<void()> on_fault);
  // Stop()
  ~Worker();

  // Drains: after a while of still accepting refuses new requests, waits for the running ones until the grace is over, hands
  // the rest over to other workers. Then stops all parts in order. False: a step hangs, so that the engine cannot be stopped;
  // what sessions have is safe, and the process is to exit without the destructor.
  bool Stop();

  // The line that tells a parent that this worker serves, in JSON.
  std::string ReadyLine() const;

 private:
  Worker(const WorkerOptions& options, Backend backend);
  absl::Status Serve(std::unique_ptr<session::Journal> journal, std::function<void()> on_fault);
  absl::Status StartServers();
  absl::Status ReadFiles();
  std::string Scrape();

  const WorkerOptions options_;
  Backend backend_;
  service::WorkerIdentity identity_;
  prometheus::Registry registry_;
  rpc::HealthService health_;
  rpc::ReflectionService reflection_{
      {"berth.v1.AdminService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}};
  rpc::Server data_server_;
  rpc::Server admin_server_;
  std::unique_ptr<service::Metrics> metrics_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<service::GenerationCore> core_;
  std::unique_ptr<service::Embedder> embedder_;
  std::unique_ptr<session::SessionStore> sessions_;
  std::unique_ptr<service::TokenizerPool> pool_;
  std::unique_ptr<service::WorkerStatus> status_;
  std::unique_ptr<service::LinkHub> links_;
  std::unique_ptr<service::WorkerServices> services_;
  std::unique_ptr<service::AdminServices> admin_services_;
  std::unique_ptr<service::StepPump> pump_;
  std::unique_ptr<rpc::HttpListener> listener_;
  rpc::Authenticator authenticator_;  // of direct callers
  std::unique_ptr<rpc::FileWatcher> files_watcher_;
  std::unique_ptr<Watchdog> watchdog_;  // null: nobody wants to hear
  bool serving_ = false;
};

}  // namespace berth::worker
