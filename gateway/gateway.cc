#include "gateway/gateway.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
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
#include "proto/rpc/health.h"
#include "proto/rpc/http_listener.h"
#include "proto/rpc/process.h"
#include "proto/rpc/server.h"

namespace berth::gateway {
namespace {

// Until callers authenticate, all of them are one tenant.
constexpr char kTenant[] = "default";
// For the last words to callers whose streams were ended, and for their calls to close.
constexpr absl::Duration kLastWords = absl::Seconds(2);
// A session whose worker does not answer in this time starts at its first rank.
constexpr absl::Duration kLookupTimeout = absl::Milliseconds(250);
// Prompts of this size come over HTTP, too.
constexpr int kMaxMessageBytes = 33 << 20;

rpc::ServerOptions Listening(const GatewayOptions& options, int port, bool reflection) {
  return {.host = options.host, .port = port, .reflection = reflection, .max_message_bytes = kMaxMessageBytes};
}

}  // namespace

class Gateway::Impl {
 public:
  Impl(const GatewayOptions& options, std::unique_ptr<discovery::Discovery> discovery, std::function<void()> on_all_workers,
       std::shared_ptr<grpc::ChannelCredentials> credentials)
      : options_(options),
        discovery_(std::move(discovery)),
        on_all_workers_(std::move(on_all_workers)),
        metrics_(registry_),
        rpc_metrics_(registry_, base::SystemClock()),
        server_(Listening(options, options.grpc_port, /*reflection=*/false)),
        timers_(server_.shard()),
        relay_(
            options.relay, discovery_->first(), base::SystemClock(), timers_,
            relay::GrpcLinkFactory(server_.shard(), credentials),
            [this](int worker, const v1::HasSessionRequest& request, auto done) {
              rpc::CallUnary(server_.shard(), stubs_.worker(worker), &v1::WorkerService::Stub::PrepareAsyncHasSession, request,
                             {.timeout = kLookupTimeout}, std::move(done));
            },
            metrics_),
        stubs_(relay_.view(), credentials),
        callers_({.relay = relay_,
                  .metrics = metrics_,
                  .rpc_metrics = rpc_metrics_,
                  .clock = base::SystemClock(),
                  .tenant = kTenant},
                 stubs_),
        admin_(relay_, server_.shard()),
        admin_server_(Listening(options, options.admin_port, /*reflection=*/true)) {}

  absl::Status Start() {
    callers_.AddTo(server_);
    health_.AddTo(server_);
    admin_.AddTo(admin_server_);
    health_.SetLive(true);
    BERTH_RETURN_IF_ERROR(server_.Start());
    started_ = true;
    BERTH_RETURN_IF_ERROR(admin_server_.Start());
    BERTH_RETURN_IF_ERROR(StartHttp());
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
    health_.SetReady(false);
    discovery_.reset();
    if (http_ != nullptr) http_->Drain();
    if (started_) {
      base::Notification idle, closed;
      server_.shard().Post([&] { relay_.Drain([&] { idle.Notify(); }); });
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
  absl::Status StartHttp() {
    http::HttpServerOptions http{
        .host = options_.host,
        .port = options_.http_port,
        .threads = options_.http_threads,
        .connection = {
            .generation = {.shard = server_.shard(), .relay = relay_, .metrics = metrics_, .clock = base::SystemClock()},
            .tenant = kTenant,
            .ready = [this] { return health_.ready(); }}};
    BERTH_ASSIGN_OR_RETURN(http_, http::HttpServer::Start(http));
    BERTH_ASSIGN_OR_RETURN(probes_, rpc::HttpListener::Start({.host = options_.host,
                                                              .port = options_.metrics_port,
                                                              .live = [this] { return health_.live(); },
                                                              .ready = [this] { return health_.ready(); },
                                                              .metrics = [this] { return rpc::SerializeMetrics(registry_); }}));
    return absl::OkStatus();
  }

  // On the shard.
  void OnDiscovered(absl::StatusOr<std::vector<routing::WorkerAddress>> workers) {
    metrics_.ConfigReloaded(workers.ok());
    if (workers.ok()) return relay_.SetWorkers(*std::move(workers));
    absl::FPrintF(stderr, "berth-gateway: workers: %s; those known stay\n", std::string(workers.status().message()));
  }

  // On the shard. Readiness does not fall again because workers failed: callers get a clear error then.
  void OnWorkersChanged() {
    int ready = 0, discovered = 0;
    for (int i = 0; i < relay_.view().size(); ++i) {
      discovered += relay_.view().worker(i).discovered;
      ready += relay_.view().CanTakeNew(i, base::SystemClock().Monotonic());
    }
    if (ready > 0) health_.SetReady(true);
    if (ready > 0 && ready == discovered && on_all_workers_) std::exchange(on_all_workers_, nullptr)();
  }

  const GatewayOptions options_;
  std::unique_ptr<discovery::Discovery> discovery_;
  std::function<void()> on_all_workers_;
  prometheus::Registry registry_;
  relay::GatewayMetrics metrics_;
  RpcMetrics rpc_metrics_;
  rpc::HealthService health_;
  rpc::Server server_;
  relay::ShardTimers timers_;
  relay::Relay relay_;
  WorkerStubs stubs_;
  CallerServices callers_;
  AdminService admin_;
  rpc::Server admin_server_;
  std::unique_ptr<http::HttpServer> http_;
  std::unique_ptr<rpc::HttpListener> probes_;
  bool started_ = false, stopped_ = false;
};

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(const GatewayOptions& options, std::function<void()> on_all_workers) {
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<grpc::ChannelCredentials> credentials, rpc::MakeChannelCredentials({}));
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<discovery::Discovery> discovery, discovery::Discovery::Make(options.discovery));
  auto gateway = std::unique_ptr<Gateway>(
      new Gateway(std::make_unique<Impl>(options, std::move(discovery), std::move(on_all_workers), std::move(credentials))));
  BERTH_RETURN_IF_ERROR(gateway->impl_->Start());
  return gateway;
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() { Stop(absl::ZeroDuration()); }
GatewayPorts Gateway::ports() const { return impl_->ports(); }
void Gateway::Stop(absl::Duration grace) { impl_->Stop(grace); }

}  // namespace berth::gateway
