#include "proto/rpc/tls.h"

#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/freer.h"
#include "base/status.h"
#include "openssl/bio.h"
#include "openssl/err.h"
#include "openssl/pem.h"
#include "openssl/x509.h"
#include "proto/rpc/files.h"

namespace berth::rpc {
namespace {

using base::Freer;

using Bio = std::unique_ptr<BIO, Freer<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

absl::StatusOr<Bio> Open(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Bio bio(BIO_new(BIO_s_mem()));
  BIO_write(bio.get(), text.data(), static_cast<int>(text.size()));
  return bio;
}

absl::Status Not(const std::string& path, const char* what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(path, " holds no ", what, " in PEM"));
}

absl::StatusOr<Certificate> ReadCertificate(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(const Bio bio, Open(path));
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) return Not(path, "certificate");
  return certificate;
}

absl::Time ExpiryOf(const X509& certificate) {
  std::tm time = {};
  ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time);
  return absl::FromTM(time, absl::UTCTimeZone());
}

}  // namespace

std::vector<std::string> TlsOptions::files() const {
  std::vector<std::string> files;
  for (const std::string& file : {cert_file, key_file, ca_file}) {
    if (!file.empty()) files.push_back(file);
  }
  return files;
}

absl::StatusOr<absl::Time> CheckTlsFiles(const TlsOptions& tls, bool server) {
  if (!tls.ca_file.empty()) BERTH_RETURN_IF_ERROR(ReadCertificate(tls.ca_file).status());
  if (tls.cert_file.empty() && tls.key_file.empty() && !server) return absl::InfiniteFuture();
  if (tls.cert_file.empty() || tls.key_file.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate file and a key file");
  }
  BERTH_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate(tls.cert_file));
  BERTH_ASSIGN_OR_RETURN(const Bio bio, Open(tls.key_file));
  // A key with a passphrase would ask for it on the terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) return Not(tls.key_file, "private key without a passphrase");
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        absl::StrCat("the key in ", tls.key_file, " does not belong to the certificate in ", tls.cert_file));
  }
  return ExpiryOf(*certificate);
}

}  // namespace berth::rpc
