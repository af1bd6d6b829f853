#include "clients/cli/ready_line.h"

#include <nlohmann/json.hpp>

namespace berth::cli {
namespace {

constexpr char kLoaded[] = "loaded_percent";

}  // namespace

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

absl::StatusOr<int> ParseLoadedLine(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains(kLoaded) || !json[kLoaded].is_number_integer()) {
    return absl::NotFoundError("not a line of what is loaded");
  }
  return json[kLoaded].get<int>();
}

std::string FormatLoadedLine(int percent) { return nlohmann::json{{kLoaded, percent}}.dump(); }

}  // namespace berth::cli
