#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/support/status.h"
#include "proto/google/rpc/status.pb.h"

namespace berth::rpc {

// Errors are absl::Status everywhere; details of google.rpc travel as its payloads. Thread-safe.

// ErrorInfo{reason, domain "berth", metadata}.
absl::Status ErrorWithReason(absl::StatusCode code, absl::string_view reason, absl::string_view message,
                             std::vector<std::pair<std::string, std::string>> metadata = {});
// INVALID_ARGUMENT with one BadRequest field violation; the message names the field.
absl::Status FieldError(absl::string_view field, absl::string_view description);
// Adds RetryInfo.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);

// Empty without ErrorInfo.
std::string Reason(const absl::Status& status);
std::optional<absl::Duration> RetryAfter(const absl::Status& status);
// (field, description) of BadRequest.
std::vector<std::pair<std::string, std::string>> FieldViolations(const absl::Status& status);

google::rpc::Status ToProto(const absl::Status& status);
absl::Status FromProto(const google::rpc::Status& status);
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// The table of google.rpc.Code.
int HttpCode(absl::StatusCode code);

}  // namespace berth::rpc
