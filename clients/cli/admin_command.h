#pragma once

#include <optional>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "proto/rpc/tls.h"

namespace berth::cli {

// --ssl-ca-certs, --ssl-certfile and --ssl-keyfile of a command that connects to a server.
void AddClientTlsFlags(CLI::App& app, rpc::TlsOptions& tls);

// `berth admin`: its flags, and what they ask for. Outlives the app's parsing.
class AdminCommand {
 public:
  explicit AdminCommand(CLI::App& app);
  AdminCommand(const AdminCommand&) = delete;
  AdminCommand& operator=(const AdminCommand&) = delete;

  bool parsed() const { return app_.parsed(); }
  // Writes to standard output.
  absl::Status Run() const;

 private:
  CLI::App& app_;
  std::optional<std::string> server_;
  rpc::TlsOptions tls_;
  std::optional<double> timeout_seconds_;
  std::string log_level_, session_id_, model_, api_key_;
  bool json_ = false;
};

}  // namespace berth::cli
