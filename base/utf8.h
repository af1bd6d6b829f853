#pragma once

#include <string_view>

namespace berth::base {

// As every protobuf string must be: no overlong forms, surrogates or code points above 10FFFF (Unicode 15, table 3-7).
bool IsUtf8(std::string_view text);

}  // namespace berth::base
