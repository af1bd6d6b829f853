#include "worker/worker.h"

#include <signal.h>

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/process.h"
#include "proto/rpc/status.h"
#include "spdlog/spdlog.h"
#include "worker/notify_socket.h"
#include "worker/session/redis_journal.h"

namespace berth::worker {
namespace {

// How long a draining worker takes requests still that others send before they learn of it.
constexpr absl::Duration kDrainAccept = absl::Seconds(5);

absl::StatusOr<std::unique_ptr<session::Journal>> MakeJournal(const WorkerOptions& options) {
  if (options.journal == "memory") return session::MakeMemoryJournal();
  absl::AnyInvocable<void()> freeze;
  if (options.sim.freeze_in_commit > 0) {
    freeze = [left = options.sim.freeze_in_commit]() mutable {
      if (--left == 0) raise(SIGSTOP);
    };
  }
  if (constexpr absl::string_view kSqlite = "sqlite:"; absl::StartsWith(options.journal, kSqlite)) {
    return session::OpenSqliteJournal(options.journal.substr(kSqlite.size()), std::move(freeze));
  }
  BERTH_ASSIGN_OR_RETURN(session::RedisOptions redis, session::ParseRedisUrl(options.journal));
  redis.ca_file = options.journal_tls.ca_file;
  redis.cert_file = options.journal_tls.cert_file;
  redis.key_file = options.journal_tls.key_file;
  return session::OpenRedisJournal(std::move(redis), std::move(freeze));
}

service::WorkerIdentity MakeIdentity(const WorkerOptions& options) {
  service::WorkerIdentity identity{.worker_id = options.worker_id, .joined = absl::Now(), .test_engine = options.sim.enabled};
  identity.incarnation.set_start_time_micros(absl::ToUnixMicros(identity.joined));
  identity.incarnation.set_random(std::random_device{}());
  return identity;
}

// "ready", …: the enum's name without its prefix.
std::string StateName(v1::WorkerState state) {
  return absl::AsciiStrToLower(v1::WorkerState_Name(state).substr(sizeof("WORKER_STATE_") - 1));
}

// Not so often that the socket's short queue overflows, and at the end.
constexpr absl::Duration kLoadingPeriod = absl::Milliseconds(100);

// Null: no supervisor listens.
absl::StatusOr<loader::Progress> TellLoading(const std::string& notify_socket) {
  if (notify_socket.empty()) return nullptr;
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const NotifySocket> supervisor, NotifySocket::Open(notify_socket));
  return [supervisor, next = absl::ZeroDuration()](int64_t done, int64_t total) mutable {
    const absl::Duration now = base::SystemClock().Monotonic();
    if (done < total && now < next) return;
    next = now + kLoadingPeriod;
    supervisor->SayLoaded(static_cast<int>(100 * done / total));
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const WorkerOptions& options, std::function<void()> on_fault) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  BERTH_RETURN_IF_ERROR(rpc::SetLogLevel(options.log_level));
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<session::Journal> journal, MakeJournal(options));
  BERTH_ASSIGN_OR_RETURN(const loader::Progress progress, TellLoading(options.notify_socket));
  BERTH_ASSIGN_OR_RETURN(Backend backend, MakeBackend(options, progress));
  std::unique_ptr<Worker> worker(new Worker(options, std::move(backend)));
  BERTH_RETURN_IF_ERROR(worker->Serve(std::move(journal), std::move(on_fault)));
  return worker;
}

Worker::Worker(const WorkerOptions& options, Backend backend)
    : options_(options),
      backend_(std::move(backend)),
      identity_(MakeIdentity(options)),
      data_server_({.host = options.host, .port = options.port, .tls = options.tls}),
      admin_server_(
          {.host = options.host, .port = options.admin_port, .tls = options.tls, .shared_shard = &data_server_.shard()}) {}

absl::Status Worker::Serve(std::unique_ptr<session::Journal> journal, std::function<void()> on_fault) {
  const base::Clock& clock = base::SystemClock();
  rpc::Shard& io = data_server_.shard();
  const uint64_t incarnation = service::IncarnationNumber(identity_.incarnation);
  const engine::EngineOptions engine_options{.max_length = backend_.served.context_length,
                                             .max_batch = options_.max_batch_size,
                                             .step_tokens = options_.step_tokens,
                                             .depth = options_.depth > 0 ? options_.depth : backend_.default_depth,
                                             .prefix_cache = options_.prefix_cache};
  const session::SessionStoreOptions session_options{.holder = absl::StrCat(identity_.worker_id, "/", incarnation),
                                                     .ttl = absl::Hours(options_.session_ttl_hours),
                                                     .max_sessions = options_.max_sessions};
  metrics_ = std::make_unique<service::Metrics>(registry_, backend_.served.name, identity_.worker_id);
  engine_ = std::make_unique<engine::Engine>(engine_options, std::move(backend_.executor), clock);
  sessions_ = std::make_unique<session::SessionStore>(session_options, std::move(journal), clock);
  pool_ = std::make_unique<service::TokenizerPool>(options_.tokenizer_threads);
  core_ =
      std::make_unique<service::GenerationCore>(service::CoreOptions{.worker_id = identity_.worker_id,
                                                                     .incarnation = incarnation,
                                                                     .max_requests = 2 * std::max(8, engine_->limits().slots)},
                                                service::GenerationCore::Parts{.model = backend_.served,
                                                                               .engine = *engine_,
                                                                               .sessions = *sessions_,
                                                                               .pool = *pool_,
                                                                               .shard = io,
                                                                               .metrics = *metrics_,
                                                                               .clock = clock});
  embedder_ = std::make_unique<service::Embedder>(
      service::Embedder::Parts{.model = backend_.served, .engine = *engine_, .pool = *pool_, .shard = io, .clock = clock});
  const absl::Duration grace = absl::Seconds(options_.shutdown_grace_seconds);
  status_ = std::make_unique<service::WorkerStatus>(
      identity_, service::WorkerStatus::Parts{.core = *core_,
                                              .engine = *engine_,
                                              .sessions = *sessions_,
                                              .health = health_,
                                              .shard = io,
                                              .clock = clock,
                                              .drain_accept = std::min(grace, kDrainAccept),
                                              .drain_deadline = grace,
                                              .on_change = [this](const std::string& state) {
                                                spdlog::info("worker {}: {}", identity_.worker_id, state);
                                                if (watchdog_ != nullptr) watchdog_->Say(absl::StrCat("STATUS=", state));
                                              }});
  links_ = std::make_unique<service::LinkHub>(options_.link, *core_, *status_, *metrics_, io, clock);
  core_->OnBatchEnd([this](uint64_t step, absl::Duration time) { links_->OnStep(step, time); });
  BERTH_RETURN_IF_ERROR(ReadFiles());
  const rpc::Authenticator* const keys = options_.api_keys.enabled() ? &authenticator_ : nullptr;
  services_ = std::make_unique<service::WorkerServices>(service::WorkerServices::Parts{.core = *core_,
                                                                                       .status = *status_,
                                                                                       .links = *links_,
                                                                                       .pool = *pool_,
                                                                                       .sessions = *sessions_,
                                                                                       .embedder = *embedder_,
                                                                                       .serve_callers = options_.serve_callers,
                                                                                       .keys = keys},
                                                        data_server_);
  admin_services_ = std::make_unique<service::AdminServices>(
      service::AdminServices::Parts{.status = *status_, .io = io, .set_log_level = rpc::SetLogLevel}, admin_server_);
  engine_->OnDeviceFault([this, on_fault = std::move(on_fault)](const absl::Status& fault) {
    spdlog::error("device fault: {}", std::string(fault.message()));
    data_server_.shard().Post(
        [this, fault] { status_->Fail(rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", fault.message())); });
    on_fault();
  });
  return StartServers();
}

// Keys, and what is told of the certificate, which gRPC reads for itself.
absl::Status Worker::ReadFiles() {
  if (options_.api_keys.enabled()) {
    BERTH_ASSIGN_OR_RETURN(rpc::ApiKeys keys, rpc::ApiKeys::Load(options_.api_keys));
    authenticator_.Replace(std::move(keys));
  }
  if (options_.tls.enabled()) {
    BERTH_ASSIGN_OR_RETURN(const absl::Time expiry, rpc::CheckTlsFiles(options_.tls, /*server=*/true));
    metrics_->SetCertificateExpiry(expiry);
  }
  return absl::OkStatus();
}

absl::Status Worker::StartServers() {
  health_.AddTo(data_server_);
  health_.AddTo(admin_server_);
  reflection_.AddTo(admin_server_);
  BERTH_RETURN_IF_ERROR(data_server_.Start());
  BERTH_RETURN_IF_ERROR(admin_server_.Start());
  BERTH_ASSIGN_OR_RETURN(listener_, rpc::HttpListener::Start({.host = options_.host,
                                                              .port = options_.metrics_port,
                                                              .live = [this] { return health_.live(); },
                                                              .ready = [this] { return health_.ready(); },
                                                              .metrics = [this] { return Scrape(); }}));
  std::vector<std::string> files = options_.tls.files();
  if (!options_.api_keys.file.empty()) files.push_back(options_.api_keys.file);
  if (!files.empty()) {
    BERTH_ASSIGN_OR_RETURN(files_watcher_, rpc::FileWatcher::Start(std::move(files), [this] {
                             const absl::Status status = ReadFiles();
                             if (!status.ok()) spdlog::warn("not taken over: {}", std::string(status.message()));
                           }));
  }
  if (!options_.notify_socket.empty()) {
    BERTH_ASSIGN_OR_RETURN(watchdog_, Watchdog::Make({.socket = options_.notify_socket}, data_server_.shard()));
  }
  // Nothing fails from here on: the pump ends only when the engine is stopped.
  pump_ = std::make_unique<service::StepPump>(engine_->output(), data_server_.shard(),
                                              [this](std::vector<engine::StepOutput> steps) {
                                                embedder_->OnSteps(steps);
                                                core_->OnSteps(std::move(steps));
                                              });
  engine_->Start();
  serving_ = true;
  base::Notification started;
  data_server_.shard().Post([this, &started] {
    status_->Start();
    if (watchdog_ != nullptr) watchdog_->Start();
    started.Notify();
  });
  started.Wait();
  spdlog::info("worker {} serves {} on {}:{}", identity_.worker_id, backend_.served.name, options_.host, data_server_.port());
  return absl::OkStatus();
}

Worker::~Worker() {
  Stop();
  // Without Serve's success the parts stop here; what posts to the I/O thread goes before what the posts touch.
  files_watcher_.reset();
  listener_.reset();
  admin_server_.Shutdown(absl::ZeroDuration());
  data_server_.Shutdown(absl::ZeroDuration());
  pool_.reset();
  sessions_.reset();
}

bool Worker::Stop() {
  if (!std::exchange(serving_, false)) return true;
  spdlog::info("worker {} stops", identity_.worker_id);
  rpc::Shard& io = data_server_.shard();
  if (watchdog_ != nullptr) watchdog_->Say("STOPPING=1");
  auto drained = std::make_shared<base::Notification>();
  io.Post([this, drained] {
    status_->Drain([drained] { drained->Notify(); });
    if (links_->links() == 0) status_->OnUnlinked();
  });
  // Of a healthy link or caller the last events are on their way in no time.
  drained->WaitFor(absl::Seconds(options_.shutdown_grace_seconds) + absl::Seconds(2));
  const absl::Status stopping = rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", "the worker is stopping");
  io.Post([this, stopping] {
    core_->FailAll(stopping);
    links_->CloseAll(stopping);
  });
  health_.EndWatches();
  const bool stopped = engine_->Stop();
  if (stopped) pump_.reset();
  admin_server_.Shutdown(absl::Seconds(1));
  data_server_.Shutdown(absl::Seconds(1));
  if (!stopped) {
    spdlog::error("worker {}: the step in flight does not end", identity_.worker_id);
    listener_.reset();
    sessions_.reset();
  }
  return stopped;
}

std::string Worker::ReadyLine() const {
  nlohmann::ordered_json line;
  line["ready"] = true;
  line["worker_id"] = identity_.worker_id;
  line["port"] = data_server_.port();
  line["admin_port"] = admin_server_.port();
  line["metrics_port"] = listener_->port();
  line["model"] = backend_.served.name;
  line["test_engine"] = identity_.test_engine;
  return line.dump();
}

std::string Worker::Scrape() {
  metrics_->Update({.engine = engine_->Stats(),
                    .preparing = core_->preparing(),
                    .open_sessions = sessions_->open_sessions(),
                    .fenced_commits = sessions_->fenced_commits(),
                    .ready = health_.ready(),
                    .state = StateName(status_->state())});
  return rpc::SerializeMetrics(registry_);
}

}  // namespace berth::worker
