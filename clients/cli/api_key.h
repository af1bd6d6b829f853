#pragma once

#include <string>

#include "grpcpp/client_context.h"

namespace berth::cli {

// No effect when `key` is empty.
inline void AddApiKey(grpc::ClientContext& context, const std::string& key) {
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
}

}  // namespace berth::cli
