#include "gateway/gateway.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "gateway/grpc/admin_service.h"
#include "gateway/grpc/caller_services.h"
#include "gateway/http/http_server.h"
#include "gateway/relay/grpc_link.h"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/files.h"
#include "proto/rpc/health.h"
#include "proto/rpc/http_listener.h"
#include "proto/rpc/process.h"
#include "proto/rpc/reflection.h"
#include "proto/rpc/server.h"
#include "spdlog/spdlog.h"

namespace berth::gateway {
namespace {

// For the last words to callers whose streams were ended, and for their calls to close.
constexpr absl::Duration kLastWords = absl::Seconds(2);
// A session whose worker does not answer in this time starts at its first rank.
constexpr absl::Duration kLookupTimeout = absl::Milliseconds(250);
// Prompts of this size come over HTTP, too.
constexpr int kMaxMessageBytes = 33 << 20;

// What is read from files before anything starts, and again when they change.
struct Loaded {
  std::shared_ptr<grpc::ChannelCredentials> worker_credentials;
  std::unique_ptr<http::TlsContext> http_tls;  // null: plaintext
  rpc::ApiKeys api_keys;
};

absl::StatusOr<Loaded> Load(const GatewayOptions& options) {
  Loaded loaded;
  if (options.admin_host != "localhost" && options.admin_host != "::1" && options.admin_host.rfind("127.", 0) != 0 &&
      options.tls.ca_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the admin host is ", options.admin_host,
                                                   ": beyond loopback the admin port needs a CA for client certificates"));
  }
  BERTH_ASSIGN_OR_RETURN(loaded.worker_credentials, rpc::MakeChannelCredentials(options.worker_tls));
  BERTH_ASSIGN_OR_RETURN(loaded.api_keys, rpc::ApiKeys::Load(options.api_keys));
  if (options.tls.enabled()) {
    BERTH_ASSIGN_OR_RETURN(loaded.http_tls, http::TlsContext::Load(options.tls));
  }
  return loaded;
}

}  // namespace

class Gateway::Impl {
 public:
  Impl(const GatewayOptions& options, std::unique_ptr<discovery::Discovery> discovery, std::function<void()> on_all_workers,
       Loaded loaded)
      : options_(options),
        discovery_(std::move(discovery)),
        on_all_workers_(std::move(on_all_workers)),
        metrics_(registry_),
        rpc_metrics_(registry_, base::SystemClock()),
        http_tls_(std::move(loaded.http_tls)),
        server_({.host = options.host, .port = options.grpc_port, .tls = options.tls, .max_message_bytes = kMaxMessageBytes}),
        timers_(server_.shard()),
        relay_(
            options.relay, discovery_->first(), base::SystemClock(), timers_,
            relay::GrpcLinkFactory(server_.shard(), loaded.worker_credentials),
            [this](int worker, const v1::HasSessionRequest& request, auto done) {
              rpc::CallUnary(server_.shard(), stubs_.worker(worker), &v1::WorkerService::Stub::PrepareAsyncHasSession, request,
                             {.timeout = kLookupTimeout}, std::move(done));
            },
            metrics_),
        stubs_(relay_.view(), loaded.worker_credentials),
        callers_({.relay = relay_,
                  .metrics = metrics_,
                  .rpc_metrics = rpc_metrics_,
                  .clock = base::SystemClock(),
                  .authenticator = authenticator_},
                 stubs_),
        admin_({.relay = relay_,
                .relay_shard = server_.shard(),
                .on_drain = [this](bool draining) { OnDrain(draining); },
                .set_log_level = rpc::SetLogLevel,
                .drain_accept = options.drain_accept}),
        admin_server_(
            {.host = options.admin_host, .port = options.admin_port, .tls = options.tls, .shared_shard = &server_.shard()}) {
    if (options.api_keys.enabled()) authenticator_.Replace(std::move(loaded.api_keys));
  }

  absl::Status Start() {
    BERTH_RETURN_IF_ERROR(ReadCertificates());
    callers_.AddTo(server_);
    callers_reflection_.AddTo(server_);
    health_.AddTo(server_);
    admin_.AddTo(admin_server_);
    reflection_.AddTo(admin_server_);
    health_.SetLive(true);
    BERTH_RETURN_IF_ERROR(server_.Start());
    started_ = true;
    BERTH_RETURN_IF_ERROR(admin_server_.Start());
    BERTH_RETURN_IF_ERROR(StartHttp());
    BERTH_RETURN_IF_ERROR(WatchFiles());
    server_.shard().Post([this] { relay_.Start([this] { OnWorkersChanged(); }); });
    discovery_->Start([this](auto workers) {
      server_.shard().Post([this, workers = std::move(workers)]() mutable { OnDiscovered(std::move(workers)); });
    });
    return absl::OkStatus();
  }

  GatewayPorts ports() const {
    return {.http = http_->port(), .grpc = server_.port(), .admin = admin_server_.port(), .metrics = probes_->port()};
  }

  // Parts in order: no new work, what runs ends, what is left is told so, then the servers.
  void Stop(absl::Duration grace) {
    if (std::exchange(stopped_, true)) return;
    watcher_.reset();
    discovery_.reset();
    if (http_ != nullptr) http_->Drain();
    if (started_) {
      base::Notification idle, closed;
      server_.shard().Post([&] {
        health_.SetReady(false);
        relay_.Drain([&] { idle.Notify(); });
      });
      idle.WaitFor(grace);
      server_.shard().Post([&] {
        relay_.Drain(nullptr);
        relay_.Stop();
        closed.Notify();
      });
      closed.Wait();
    }
    if (http_ != nullptr) http_->WaitUntilIdle(kLastWords);
    http_.reset();
    health_.SetLive(false);
    health_.EndWatches();
    admin_server_.Shutdown(absl::ZeroDuration());
    server_.Shutdown(kLastWords);
  }

 private:
  // HTTP's way to a worker's plain rpcs.
  template <typename Method>
  auto Forward(Method method) {
    return [this, method](const std::string& tenant, const auto& request, auto done) {
      (callers_.*method)(server_.shard(), tenant, request, std::move(done));
    };
  }

  absl::Status StartHttp() {
    http::HttpServerOptions http{
        .host = options_.host,
        .port = options_.http_port,
        .threads = options_.http_threads,
        .tls = http_tls_.get(),
        .connection = {
            .generation = {.shard = server_.shard(), .relay = relay_, .metrics = metrics_, .clock = base::SystemClock()},
            .authenticator = authenticator_,
            .ready = [this] { return health_.ready(); },
            .workers = {.tokenize = Forward(&CallerServices::Tokenize),
                        .detokenize = Forward(&CallerServices::Detokenize),
                        .embed =
                            [this](const std::shared_ptr<const rpc::Tenant>& tenant, const v1::EmbedRequest& request,
                                   bool further, auto done) {
                              return callers_.Embed(server_.shard(), tenant, request, further, absl::InfiniteDuration(),
                                                    std::move(done));
                            },
                        .close_session = Forward(&CallerServices::CloseSession),
                        .fork_session = Forward(&CallerServices::ForkSession)},
            .allowed_origins = options_.allowed_origins,
            .heartbeat = options_.http_heartbeat,
            .request_timeout = options_.http_request_timeout}};
    BERTH_ASSIGN_OR_RETURN(http_, http::HttpServer::Start(http));
    BERTH_ASSIGN_OR_RETURN(probes_, rpc::HttpListener::Start({.host = options_.host,
                                                              .port = options_.metrics_port,
                                                              .live = [this] { return health_.live(); },
                                                              .ready = [this] { return health_.ready(); },
                                                              .metrics = [this] { return rpc::SerializeMetrics(registry_); }}));
    return absl::OkStatus();
  }

  absl::Status WatchFiles() {
    std::vector<std::string> files = options_.tls.files();
    for (const std::string& file : options_.worker_tls.files()) files.push_back(file);
    if (!options_.api_keys.file.empty()) files.push_back(options_.api_keys.file);
    if (files.empty()) return absl::OkStatus();
    BERTH_ASSIGN_OR_RETURN(watcher_, rpc::FileWatcher::Start(std::move(files), [this] { Reload(); }));
    return absl::OkStatus();
  }

  // Checks both and tells when they expire; one that is no good does not keep the other from being told.
  absl::Status ReadCertificates() {
    absl::Status status;
    const auto read = [&](std::string_view shown_to, const rpc::TlsOptions& tls, bool server) {
      const absl::StatusOr<absl::Time> expiry = rpc::CheckTlsFiles(tls, server);
      if (expiry.ok()) metrics_.SetCertificateExpiry(shown_to, *expiry);
      status.Update(expiry.status());
    };
    if (http_tls_ != nullptr) read("callers", options_.tls, /*server=*/true);
    read("workers", options_.worker_tls, /*server=*/false);
    return status;
  }

  // On the watcher's thread. What is no good is logged, and what was there before stays in use.
  void Reload() {
    absl::StatusOr<rpc::ApiKeys> keys = rpc::ApiKeys::Load(options_.api_keys);
    absl::Status status = keys.status();
    if (keys.ok() && options_.api_keys.enabled()) authenticator_.Replace(*std::move(keys));
    if (http_tls_ != nullptr) status.Update(http_tls_->Reload());
    status.Update(ReadCertificates());
    metrics_.ConfigReloaded(status.ok());
    if (status.ok()) {
      spdlog::info("keys and certificates were read again");
    } else {
      spdlog::warn("not taken over: {}", std::string(status.message()));
    }
  }

  // On the shard.
  void OnDrain(bool draining) {
    draining_ = draining;
    spdlog::info("{}", draining ? "draining" : "taking requests again");
    if (draining) health_.SetReady(false);
    OnWorkersChanged();
  }

  // On the shard.
  void OnDiscovered(absl::StatusOr<std::vector<routing::WorkerAddress>> workers) {
    metrics_.ConfigReloaded(workers.ok());
    if (workers.ok()) return relay_.SetWorkers(*std::move(workers));
    spdlog::warn("workers: {}; those known stay", std::string(workers.status().message()));
  }

  // On the shard. Readiness does not fall again because workers failed: callers get a clear error then.
  void OnWorkersChanged() {
    int ready = 0, discovered = 0;
    for (int i = 0; i < relay_.view().size(); ++i) {
      discovered += relay_.view().worker(i).discovered;
      ready += relay_.view().CanTakeNew(i, base::SystemClock().Monotonic());
    }
    if (ready > 0 && !draining_ && !relay_.draining()) health_.SetReady(true);
    if (ready > 0 && ready == discovered && on_all_workers_) std::exchange(on_all_workers_, nullptr)();
  }

  const GatewayOptions options_;
  std::unique_ptr<discovery::Discovery> discovery_;
  std::function<void()> on_all_workers_;
  prometheus::Registry registry_;
  relay::GatewayMetrics metrics_;
  RpcMetrics rpc_metrics_;
  rpc::Authenticator authenticator_;
  const std::unique_ptr<http::TlsContext> http_tls_;
  rpc::HealthService health_;
  rpc::Server server_;
  relay::ShardTimers timers_;
  relay::Relay relay_;
  WorkerStubs stubs_;
  CallerServices callers_;
  AdminService admin_;
  rpc::ReflectionService callers_reflection_{{"berth.v1.InferenceService", "berth.v1.ModelService", "berth.v1.SessionService",
                                              "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}};
  rpc::ReflectionService reflection_{{"berth.v1.AdminService", "grpc.reflection.v1alpha.ServerReflection"}};
  rpc::Server admin_server_;
  std::unique_ptr<http::HttpServer> http_;
  std::unique_ptr<rpc::HttpListener> probes_;
  std::unique_ptr<rpc::FileWatcher> watcher_;
  bool draining_ = false;  // on the shard
  bool started_ = false, stopped_ = false;
};

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(const GatewayOptions& options, std::function<void()> on_all_workers) {
  BERTH_ASSIGN_OR_RETURN(Loaded loaded, Load(options));
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<discovery::Discovery> discovery, discovery::Discovery::Make(options.discovery));
  auto gateway = std::unique_ptr<Gateway>(
      new Gateway(std::make_unique<Impl>(options, std::move(discovery), std::move(on_all_workers), std::move(loaded))));
  BERTH_RETURN_IF_ERROR(gateway->impl_->Start());
  return gateway;
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() { Stop(absl::ZeroDuration()); }
GatewayPorts Gateway::ports() const { return impl_->ports(); }
void Gateway::Stop(absl::Duration grace) { impl_->Stop(grace); }

}  // namespace berth::gateway
