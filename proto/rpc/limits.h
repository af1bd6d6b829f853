#pragma once

#include <cstddef>

namespace berth::rpc {

// Bounds that gateways and workers check alike: either may face a caller.
inline constexpr int kMaxChoices = 128;
inline constexpr int kMaxTopLogprobs = 20;
inline constexpr int kMaxPriority = 100;      // and its negative the least
inline constexpr size_t kMaxNameBytes = 256;  // of an id that callers choose

}  // namespace berth::rpc
