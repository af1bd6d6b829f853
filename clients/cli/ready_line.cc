#include "clients/cli/ready_line.h"

#include <nlohmann/json.hpp>

namespace berth::cli {

absl::StatusOr<ReadyLine> ParseReadyLine(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("ready") || json["ready"] != true) return absl::NotFoundError("not a ready line");
  const auto port = [&](const char* name) {
    return json.contains(name) && json[name].is_number_integer() ? json[name].get<int>() : 0;
  };
  return ReadyLine{.port = port("port"), .http_port = port("http_port"), .grpc_port = port("grpc_port")};
}

std::string FormatReadyLine(const ReadyLine& ready) {
  return nlohmann::ordered_json{{"ready", true}, {"http_port", ready.http_port}, {"grpc_port", ready.grpc_port}}.dump();
}

}  // namespace berth::cli
