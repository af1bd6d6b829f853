#include "clients/cli/admin_command.h"

#include <iostream>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "base/status.h"
#include "clients/cli/admin.h"
#include "proto/rpc/channel.h"

namespace berth::cli {

void AddClientTlsFlags(CLI::App& app, rpc::TlsOptions& tls) {
  app.add_option("--ssl-ca-certs", tls.ca_file, "CA of the server's certificate: connect with TLS (PEM)");
  app.add_option("--ssl-certfile", tls.cert_file, "Certificate for a server that demands one (PEM)");
  app.add_option("--ssl-keyfile", tls.key_file, "Its key (PEM)");
}

AdminCommand::AdminCommand(CLI::App& app) : app_(app) {
  app.require_subcommand(1);
  app.add_option("--server", server_,
                 "host:port of the admin port of a gateway or worker (session: of the gRPC port); default: a local gateway's");
  AddClientTlsFlags(app, tls_);
  CLI::App& workers = *app.add_subcommand("workers", "List the gateway's workers");
  app.add_subcommand("drain", "Take no new requests, and show what still runs until nothing does")
      ->add_option("--timeout", timeout_seconds_, "Seconds to wait; the drain itself goes on")
      ->check(CLI::PositiveNumber);
  app.add_subcommand("undrain", "Take requests again");
  app.add_subcommand("log-level", "Set the level of the log")
      ->add_option("level", log_level_, "debug, info, warn or error")
      ->required();
  CLI::App& session = *app.add_subcommand("session", "Show an interactive session");
  session.add_option("id", session_id_, "Its id")->required();
  session.add_option("--model", model_, "Its model; default: the only one");
  session.add_option("--api-key", api_key_, "Key of its tenant");
  for (CLI::App* command : {&workers, &session}) command->add_flag("--json", json_, "As JSON, with the fields of berth.v1");
}

absl::Status AdminCommand::Run() const {
  const std::string command = app_.get_subcommands().front()->get_name();
  BERTH_ASSIGN_OR_RETURN(const auto credentials, rpc::MakeChannelCredentials(tls_));
  const auto channel =
      rpc::MakeChannel(server_.value_or(command == "session" ? "127.0.0.1:23334" : "127.0.0.1:23335"), credentials);
  if (command == "workers") return AdminListWorkers(channel, json_, std::cout);
  if (command == "undrain") return AdminUndrain(channel, std::cout);
  if (command == "log-level") return AdminSetLogLevel(channel, log_level_);
  if (command == "session") return AdminShowSession(channel, api_key_, model_, session_id_, json_, std::cout);
  const bool for_ever = !timeout_seconds_.has_value();
  return AdminDrain(channel, for_ever ? absl::InfiniteDuration() : absl::Seconds(*timeout_seconds_), std::cout);
}

}  // namespace berth::cli
