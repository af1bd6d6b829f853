#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::routing {

// A worker as discovery names it. The id is stable over restarts: sessions are placed by it.
struct WorkerAddress {
  std::string id;
  // "host:port", as gRPC takes it.
  std::string address;

  bool operator==(const WorkerAddress&) const = default;
};

// Static discovery: "id=host:port,id=host:port,…". INVALID_ARGUMENT names the entry that is malformed or repeated; an empty
// list is one too.
absl::StatusOr<std::vector<WorkerAddress>> ParseWorkerList(std::string_view text);

}  // namespace berth::routing
