#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "base/mutex.h"
#include "gateway/gateway.h"
#include "proto/rpc/process.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace {

struct Flags {
  berth::gateway::GatewayOptions gateway;
  bool wait_workers = false;
  double drain_seconds = 30;
  std::string log_level = "info";
  double move_idle_seconds = 60;
  double http_heartbeat_seconds = 15;
  double http_request_seconds = 60;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--workers", flags.gateway.discovery.workers,
                 "Workers: id=host:port,…; file:PATH of such entries; dns:host:port,…; or srv:name,…")
      ->required();
  app.add_option("--dns-server", flags.gateway.discovery.dns_server, "host:port to ask instead of the system's DNS servers");
  app.add_option("--move-idle", flags.move_idle_seconds, "A session idle for so many seconds moves to its first worker")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--slow-factor", flags.gateway.relay.slow_factor,
                 "A worker so many times slower than its peers gets no work for a while; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--host", flags.gateway.host, "Address to listen on")->capture_default_str();
  const auto port = [&](const char* name, int& value, const char* what) {
    app.add_option(name, value, std::string(what) + "; 0: any free one")->check(CLI::Range(0, 65535))->capture_default_str();
  };
  port("--http-port", flags.gateway.http_port, "Port of the OpenAI API");
  port("--grpc-port", flags.gateway.grpc_port, "Port of the gRPC API");
  port("--admin-port", flags.gateway.admin_port, "Port of AdminService and reflection");
  port("--metrics-port", flags.gateway.metrics_port, "Port of /metrics, /live and /ready");
  app.add_option("--admin-host", flags.gateway.admin_host, "Address of the admin port; beyond loopback it needs --ssl-ca-certs")
      ->capture_default_str();
  app.add_option("--ssl-certfile", flags.gateway.tls.cert_file, "Certificate for callers, over HTTP and gRPC (PEM)");
  app.add_option("--ssl-keyfile", flags.gateway.tls.key_file, "Its key (PEM)");
  app.add_option("--ssl-ca-certs", flags.gateway.tls.ca_file, "CA of the callers: they need certificates of it (PEM)");
  app.add_option("--worker-tls-ca", flags.gateway.worker_tls.ca_file, "CA of the workers' certificates (PEM)");
  app.add_option("--worker-tls-cert", flags.gateway.worker_tls.cert_file, "Certificate for workers that demand one (PEM)");
  app.add_option("--worker-tls-key", flags.gateway.worker_tls.key_file, "Its key (PEM)");
  app.add_option("--api-keys", flags.gateway.api_keys.keys, "Keys that callers may use; default: none is asked for");
  app.add_option("--api-keys-file", flags.gateway.api_keys.file, "File of keys, tenants and their limits (docs/security.md)");
  app.add_option("--log-level", flags.log_level, "debug, info, warn or error")->capture_default_str();
  app.add_option("--http-threads", flags.gateway.http_threads, "Threads for HTTP")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--allow-origins", flags.gateway.allowed_origins, "Origins whose pages may call over HTTP; *: all; \"\": none")
      ->capture_default_str();
  app.add_option("--http-heartbeat-seconds", flags.http_heartbeat_seconds, "A stream that says nothing for so long says so")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--http-request-seconds", flags.http_request_seconds,
                 "A caller that takes longer to send a request, header and body, is cut off")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--gateway-id", flags.gateway.relay.gateway_id, "Name of this process towards workers; default: drawn");
  app.add_option("--max-streams", flags.gateway.relay.max_streams, "Generations at once, over all gateways")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--max-waiting", flags.gateway.relay.max_waiting, "Requests that wait for room")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--drain-seconds", flags.drain_seconds, "Time for running requests when told to stop")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--wait-workers", flags.wait_workers, "Print the ready line only when every worker is ready");
}

void PrintReady(const berth::gateway::GatewayPorts& ports) {
  absl::PrintF("{\"ready\":true,\"http_port\":%d,\"grpc_port\":%d,\"admin_port\":%d,\"metrics_port\":%d}\n", ports.http,
               ports.grpc, ports.admin, ports.metrics);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  berth::rpc::InitProcess();
  Flags flags;
  CLI::App app("Berth's gateway: routes generations to workers");
  AddFlags(app, flags);
  CLI11_PARSE(app, argc, argv);

  spdlog::set_default_logger(spdlog::stderr_logger_mt("berth-gateway"));
  if (absl::Status status = berth::rpc::SetLogLevel(flags.log_level); !status.ok()) {
    absl::FPrintF(stderr, "berth-gateway: --log-level: %s\n", std::string(status.message()));
    return 2;
  }
  flags.gateway.http_heartbeat = absl::Seconds(flags.http_heartbeat_seconds);
  flags.gateway.http_request_timeout = absl::Seconds(flags.http_request_seconds);
  flags.gateway.relay.move_idle = absl::Seconds(flags.move_idle_seconds);
  if (flags.gateway.relay.gateway_id.empty()) {
    absl::BitGen random;
    flags.gateway.relay.gateway_id = absl::StrFormat("gateway-%d-%08x", getpid(), absl::Uniform<uint32_t>(random));
  }

  const berth::rpc::ShutdownSignal shutdown;
  berth::base::Notification listening;
  absl::StatusOr<std::unique_ptr<berth::gateway::Gateway>> gateway = absl::UnknownError("not started");
  const auto print_ready = [&] {
    listening.Wait();
    PrintReady((*gateway)->ports());
  };
  gateway = berth::gateway::Gateway::Start(flags.gateway, flags.wait_workers ? std::function<void()>(print_ready) : nullptr);
  if (!gateway.ok()) {
    absl::FPrintF(stderr, "berth-gateway: %s\n", std::string(gateway.status().message()));
    return 1;
  }
  listening.Notify();
  if (!flags.wait_workers) print_ready();
  shutdown.Wait();
  (*gateway)->Stop(absl::Seconds(flags.drain_seconds));
  return 0;
}
