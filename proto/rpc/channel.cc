#include "proto/rpc/channel.h"

#include "base/status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace berth::rpc {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

// How often gRPC looks at the files.
constexpr unsigned kRefreshSeconds = 1;

template <typename Options>
void Watch(const TlsOptions& tls, Options& options) {
  if (!tls.ca_file.empty()) options.watch_root_certs();
  if (!tls.cert_file.empty()) options.watch_identity_key_cert_pairs();
}

}  // namespace

absl::StatusOr<CoreServerCredentials> MakeServerCredentials(const TlsOptions& tls) {
  if (!tls.enabled()) return CoreServerCredentials(grpc_insecure_server_credentials_create());
  BERTH_RETURN_IF_ERROR(CheckTlsFiles(tls, /*server=*/true).status());
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<FileWatcherCertificateProvider>(tls.key_file, tls.cert_file, tls.ca_file, kRefreshSeconds));
  Watch(tls, options);
  options.set_cert_request_type(tls.ca_file.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                    : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return CoreServerCredentials(grpc_tls_server_credentials_create(options.c_credentials_options()));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(const TlsOptions& tls) {
  if (!tls.enabled()) return grpc::InsecureChannelCredentials();
  BERTH_RETURN_IF_ERROR(CheckTlsFiles(tls, /*server=*/false).status());
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(
      std::make_shared<FileWatcherCertificateProvider>(tls.key_file, tls.cert_file, tls.ca_file, kRefreshSeconds));
  Watch(tls, options);
  return grpc::experimental::TlsCredentials(options);
}

grpc::ChannelArguments ClientChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16384);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // What a connection attempt gets at least, TLS handshake included; one that is refused is over at once.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return arguments;
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  return grpc::CreateCustomChannel(address, credentials, ClientChannelArguments());
}

}  // namespace berth::rpc
