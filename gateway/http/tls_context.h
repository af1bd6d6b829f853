#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "boost/asio/ssl/context.hpp"
#include "proto/rpc/tls.h"

namespace berth::http {

// What new TLS connections are made with, which may be replaced while it is used. Thread-safe.
class TlsContext {
 public:
  using Snapshot = std::shared_ptr<boost::asio::ssl::context>;

  // INVALID_ARGUMENT as rpc::CheckTlsFiles.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Load(const rpc::TlsOptions& options);

  // Reads the files again; on an error what was there stays.
  absl::Status Reload();
  Snapshot current() const;

 private:
  explicit TlsContext(const rpc::TlsOptions& options) : options_(options) {}

  const rpc::TlsOptions options_;
  mutable base::Mutex mutex_;
  Snapshot current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::http
