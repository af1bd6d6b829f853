#pragma once

#include <memory>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"

namespace berth::cli {

// What `berth admin` does at the admin port of a gateway or worker. Each writes its result to `out` and returns the server's
// error. Thread: any, one at a time.

// One line per worker of a gateway; as JSON: ListWorkersResponse.
absl::Status AdminListWorkers(const std::shared_ptr<grpc::Channel>& channel, bool json, std::ostream& out);
// Asks for a drain and writes a line whenever the figures change, until nothing runs. DEADLINE_EXCEEDED after `timeout`: the
// drain goes on.
absl::Status AdminDrain(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout, std::ostream& out);
absl::Status AdminUndrain(const std::shared_ptr<grpc::Channel>& channel, std::ostream& out);
absl::Status AdminSetLogLevel(const std::shared_ptr<grpc::Channel>& channel, const std::string& level);

// At the gRPC port of a gateway or worker: one interactive session of the caller's tenant. `api_key` and `model` may be empty.
// As JSON: GetSessionResponse.
absl::Status AdminShowSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& api_key,
                              const std::string& model, const std::string& session_id, bool json, std::ostream& out);

}  // namespace berth::cli
