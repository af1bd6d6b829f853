#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace berth::cli {

// What a file holds; a discarded value, which is no object and no array, where that is no JSON. NOT_FOUND: it cannot be read.
absl::StatusOr<nlohmann::ordered_json> ReadJsonFile(const std::string& path);

}  // namespace berth::cli
