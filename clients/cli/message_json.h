#pragma once

#include <ostream>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace berth::cli {

// With every field under the name that it has in berth.v1.
absl::Status WriteJson(const google::protobuf::Message& message, std::ostream& out);

}  // namespace berth::cli
