#include "gateway/http/tls_context.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::http {

namespace ssl = boost::asio::ssl;

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Load(const rpc::TlsOptions& options) {
  std::unique_ptr<TlsContext> context(new TlsContext(options));
  BERTH_RETURN_IF_ERROR(context->Reload());
  return context;
}

absl::Status TlsContext::Reload() {
  BERTH_RETURN_IF_ERROR(rpc::CheckTlsFiles(options_, /*server=*/true).status());
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  boost::system::error_code error;
  context->set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1, error);
  if (!error) context->use_certificate_chain_file(options_.cert_file, error);
  if (!error) context->use_private_key_file(options_.key_file, ssl::context::pem, error);
  if (!error && !options_.ca_file.empty()) {
    context->load_verify_file(options_.ca_file, error);
    context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
    // Without one, OpenSSL refuses to resume the sessions of callers whose certificates it verifies.
    constexpr unsigned char kSessions[] = "berth";
    SSL_CTX_set_session_id_context(context->native_handle(), kSessions, sizeof(kSessions) - 1);
  }
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("cannot serve TLS with ", options_.cert_file, ": ", error.message()));
  }
  base::MutexLock lock(mutex_);
  current_ = std::move(context);
  return absl::OkStatus();
}

TlsContext::Snapshot TlsContext::current() const {
  base::MutexLock lock(mutex_);
  return current_;
}

}  // namespace berth::http
