#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace berth::cli {

// The line that a program prints when it serves, {"ready":true,"grpc_port":23334,…}: its ports, 0 for those it does not name.
struct ReadyLine {
  int port = 0;  // a worker's
  int http_port = 0;
  int grpc_port = 0;
};

// NOT_FOUND when the line is no such line.
absl::StatusOr<ReadyLine> ParseReadyLine(const std::string& line);
std::string FormatReadyLine(const ReadyLine& ready);

// The line that tells how much of the weights is loaded: {"loaded_percent":42}.
absl::StatusOr<int> ParseLoadedLine(const std::string& line);
std::string FormatLoadedLine(int percent);

}  // namespace berth::cli
