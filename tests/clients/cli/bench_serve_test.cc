#include "clients/cli/bench_serve.h"

#include <gtest/gtest.h>

#include "clients/cli/bench_metrics.h"
#include "tests/clients/cli/fake_server.h"
#include "tests/clients/cli/stalling_clock.h"

namespace berth::cli {
namespace {

// Against a program that sends late, which is what a stalled one does: what it should have waited for counts all the same.
TEST(ServeBenchTest, AnOpenLoadsTimesCountFromItsArrivals) {
  const FakeServer server;
  constexpr double kArrival = 0.001;
  const BenchRequest request{.prompt = 3, .output = 2, .arrival = kArrival, .conversation = true};
  const auto rows =
      RunServeBench({.target = {.server = server.address()}, .loads = {{.requests = {request}}}, .repeats = 1, .threads = 1},
                    {}, StallingClock());
  ASSERT_TRUE(rows.ok()) << rows.status();
  const auto value = [&](const char* name) { return FindFigure((*rows)[0].figures, name)->median; };
  const double end = 1 / value("request_rate");  // of the only request
  EXPECT_GE(end, kStall);
  EXPECT_DOUBLE_EQ(value("latency_mean"), 1e3 * (end - kArrival));
}

}  // namespace
}  // namespace berth::cli
