#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace berth::rpc {

// PEM files; all empty: plaintext. The files are read again when they change, and new connections use what they hold then; so
// replace them in one go (rename, or a symbolic link to their folder). A certificate and a key that do not belong together
// serve nobody.
struct TlsOptions {
  std::string cert_file;
  std::string key_file;
  std::string ca_file;  // of the peers: a server with it demands client certificates

  bool enabled() const { return !cert_file.empty() || !key_file.empty() || !ca_file.empty(); }
  std::vector<std::string> files() const;
};

// When the certificate expires; InfiniteFuture without one. INVALID_ARGUMENT names a file that cannot be read, holds something
// else, or does not belong to the other. A server needs a certificate.
absl::StatusOr<absl::Time> CheckTlsFiles(const TlsOptions& tls, bool server);

}  // namespace berth::rpc
