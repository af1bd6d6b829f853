#include "proto/rpc/channel.h"

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"

namespace berth::rpc {
namespace {

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file || text.empty()) return absl::InvalidArgumentError(absl::StrCat("cannot read the PEM file ", path));
  return text;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(const TlsOptions& tls) {
  if (!tls.enabled()) return grpc::InsecureServerCredentials();
  if (tls.cert_file.empty() || tls.key_file.empty())
    return absl::InvalidArgumentError("TLS needs a certificate file and a key file");
  BERTH_ASSIGN_OR_RETURN(std::string cert, ReadPem(tls.cert_file));
  BERTH_ASSIGN_OR_RETURN(std::string key, ReadPem(tls.key_file));
  BERTH_ASSIGN_OR_RETURN(std::string ca, ReadPem(tls.ca_file));
  grpc::SslServerCredentialsOptions options(ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                       : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = std::move(ca);
  options.pem_key_cert_pairs.push_back({std::move(key), std::move(cert)});
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(const TlsOptions& tls) {
  if (!tls.enabled()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  BERTH_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(tls.ca_file));
  BERTH_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(tls.cert_file));
  BERTH_ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(tls.key_file));
  return grpc::SslCredentials(options);
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
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return arguments;
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  return grpc::CreateCustomChannel(address, credentials, ClientChannelArguments());
}

}  // namespace berth::rpc
