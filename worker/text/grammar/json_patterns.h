#pragma once

#include <string>

namespace berth::text {

// The regular expression of a JSON schema's `format`; "" when it is unknown.
std::string FormatPattern(const std::string& format);

}  // namespace berth::text
