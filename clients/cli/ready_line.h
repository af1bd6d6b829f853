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

}  // namespace berth::cli
