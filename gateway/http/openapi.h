#pragma once

#include <string>
#include <string_view>

#include "nlohmann/json.hpp"

namespace berth::http {

// The OpenAPI 3.1 description of all endpoints, its text, and a page to read it: made once.
const nlohmann::ordered_json& OpenApi();
const std::string& OpenApiDocument();
const std::string& DocumentationPage();
std::string_view DocumentationStyle();

}  // namespace berth::http
