#pragma once

namespace berth::cli {

// tests/bench/trace.json and arrivals.json.
extern const char* const kTraceJson;
extern const char* const kArrivalsJson;

}  // namespace berth::cli
