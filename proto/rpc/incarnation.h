#pragma once

#include <cstdint>

#include "proto/berth/v1/worker.pb.h"

namespace berth::rpc {

// An incarnation as one ordered number: what Started, hints, session holders and metrics say.
inline uint64_t IncarnationNumber(const v1::Incarnation& incarnation) {
  return static_cast<uint64_t>(incarnation.start_time_micros()) << 12 | (incarnation.random() & 0xfff);
}

}  // namespace berth::rpc
