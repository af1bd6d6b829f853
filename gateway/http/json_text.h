#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace berth::http {

// JSON text of what may hold broken UTF-8, which becomes U+FFFD.
inline std::string Dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// Server-sent events, with a name or without.
inline std::string DataEvent(const nlohmann::ordered_json& value) { return absl::StrCat("data: ", Dump(value), "\n\n"); }
inline std::string NamedEvent(const std::string& name, const nlohmann::ordered_json& value) {
  return absl::StrCat("event: ", name, "\ndata: ", Dump(value), "\n\n");
}

}  // namespace berth::http
