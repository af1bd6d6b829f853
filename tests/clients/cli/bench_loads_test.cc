#include "clients/cli/bench_loads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "clients/cli/bench_floor.h"
#include "clients/cli/bench_metrics.h"
#include "clients/cli/bench_plot.h"
#include "clients/cli/bench_report.h"

namespace berth::cli {
namespace {

using testing::HasSubstr;

std::string Error(const std::string& list) {
  return std::string(ParseLoads(list, {.trace = {{4, 2}}, .arrivals = {1}}).status().message());
}

TEST(ParseLoadsTest, ALetterIsItsUsualRows) {
  const TraceFiles files{.trace = std::vector<TraceRequest>(2000, {5, 7})};
  const std::vector<BenchLoad> loads = ParseLoads("A,C,E,B:3x10/2", files).value();
  std::vector<std::string> names;
  for (const BenchLoad& load : loads) names.push_back(load.name);
  EXPECT_THAT(names, testing::ElementsAre("A 1 x 32/128", "A 1 x 1024/512", "C trace 1000 @ 256", "C trace 2000 @ 1024",
                                          "E 1 x 8192/1", "B 3 x 10/2"));
  EXPECT_EQ(loads[2].in_flight, 256);
  EXPECT_EQ(loads[2].requests.size(), 1000u);
  EXPECT_EQ(loads[4].requests[0].output, 1);
  EXPECT_EQ(loads[5].requests.size(), 3u);
}

TEST(ParseLoadsTest, ArrivalsFollowTheRate) {
  const auto loads = ParseLoads("P:2@4", {.trace = {{1, 1}, {2, 2}}, .arrivals = {0.5, 3}}).value();
  EXPECT_EQ(loads[0].requests[0].arrival, 0.125);
  EXPECT_EQ(loads[0].requests[1].arrival, 0.75);
}

TEST(ParseLoadsTest, TheGridOfGeneration) {
  const auto loads = ParseLoads("generation", {}).value();
  EXPECT_EQ(loads.size(), 20u);
  EXPECT_EQ(loads.front().name, "1 x 1/128");
  EXPECT_EQ(loads.back().name, "64 x 2048/2048");
}

TEST(SweepLoadsTest, TheSameRequestsAtEachRateAndInEachNumber) {
  const Sweep sweep{.request_rates = {1, 50}, .concurrencies = {8}, .requests = 2000, .prompt = 5, .output = 7};
  const auto loads = SweepLoads(sweep, {}).value();
  ASSERT_EQ(loads.size(), 3u);
  EXPECT_EQ(loads[1].name, "2000 at 50/s");
  EXPECT_EQ(loads[2].in_flight, 8);
  EXPECT_EQ(loads[2].requests[0].arrival, 0);
  EXPECT_NEAR(loads[0].requests.back().arrival, 2000, 200) << "one a second";
  int within_a_gap = 0;  // of a Poisson process 1 - 1/e are
  for (size_t i = 1; i < 2000; ++i) {
    EXPECT_DOUBLE_EQ(loads[1].requests[i].arrival, loads[0].requests[i].arrival / 50);
    within_a_gap += loads[0].requests[i].arrival - loads[0].requests[i - 1].arrival < 1;
  }
  EXPECT_NEAR(within_a_gap / 2000.0, 0.632, 0.05);
  EXPECT_EQ(SweepLoads({.concurrencies = {1}, .requests = 1}, {{4, 2}}).value()[0].requests[0].prompt, 4);
}

TEST(SweepLoadsTest, PromptsMayShareTheirBegin) {
  const Sweep sweep{.concurrencies = {1}, .requests = 4, .prompt = 5, .output = 7, .prefix = 100, .prefixes = 3};
  const auto loads = SweepLoads(sweep, {}).value();
  std::vector<int> groups;
  for (const BenchRequest& request : loads[0].requests) {
    groups.push_back(request.group);
    EXPECT_EQ(request.prompt, 105);
    EXPECT_EQ(request.shared, 100);
  }
  EXPECT_THAT(groups, testing::ElementsAre(0, 1, 2, 0));
}

TEST(SweepLoadsTest, ConversationsArriveAndTheirTurnsFollow) {
  const Sweep sweep{.request_rates = {2}, .requests = 2, .prompt = 5, .output = 7, .prefix = 9, .turns = 3};
  const auto requests = SweepLoads(sweep, {}).value()[0].requests;
  ASSERT_EQ(requests.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(requests[i].conversation);
    EXPECT_EQ(requests[i].follows, i % 3 > 0);
    EXPECT_EQ(requests[i].arrival > 0, i % 3 == 0);
    EXPECT_EQ(requests[i].prompt, i % 3 == 0 ? 14 : 5) << "what is shared comes once";
  }
  EXPECT_GT(requests[3].arrival, requests[0].arrival);
}

TEST(SweepLoadsTest, ATraceIsReplayedAtItsTimes) {
  const std::string path = testing::TempDir() + "/trace.json";
  std::ofstream(path) << "[[4, 2, 0.5], [5, 3, 0.5], [6, 4, 2]]";
  const auto trace = ReadTrace(path, 10, 1).value();
  const auto loads = SweepLoads({.replay = 2, .requests = 3}, trace).value();
  EXPECT_EQ(loads[0].name, "3 replayed x 2");
  EXPECT_EQ(loads[0].requests[1].output, 3);
  EXPECT_EQ(loads[0].requests[1].arrival, 0.25);
  EXPECT_EQ(loads[0].requests[2].arrival, 1);
  EXPECT_THAT(std::string(SweepLoads({.replay = 1, .requests = 1}, {{4, 2}}).status().message()),
              HasSubstr("does not say when its request 0 came"));
  std::ofstream(path) << "[[4, 2, 0.5], [5, 3, 0.4]]";
  EXPECT_THAT(std::string(ReadTrace(path, 10, 1).status().message()), HasSubstr("entry 1 is no pair"));
}

TEST(SweepLoadsTest, WhatIsOutOfRangeIsNamed) {
  const auto error = [](const Sweep& sweep) { return std::string(SweepLoads(sweep, {{4, 2}}).status().message()); };
  EXPECT_THAT(error({.request_rates = {-1}, .requests = 1}), HasSubstr("a rate of -1"));
  EXPECT_THAT(error({.concurrencies = {0}, .requests = 1}), HasSubstr("0 requests in flight"));
  EXPECT_THAT(error({.requests = 0}), HasSubstr("0 requests"));
  EXPECT_THAT(error({.prompt = 5}), HasSubstr("lengths 5/0"));
  EXPECT_THAT(error({.requests = 2}), HasSubstr("the trace has 1 requests"));
  EXPECT_THAT(error({.requests = 1, .turns = 0}), HasSubstr("0 turns"));
  EXPECT_THAT(error({.requests = 1, .prefix = -1}), HasSubstr("1 prefixes of -1"));
  EXPECT_THAT(error({.replay = -1, .requests = 1}), HasSubstr("a replay -1 times"));
}

TEST(ReadArrivalsTest, TimesNeverFall) {
  const std::vector<double> arrivals = ReadArrivals("tests/bench/arrivals.json").value();
  EXPECT_EQ(arrivals.size(), 800u);
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  EXPECT_NEAR(arrivals.back() / 800, 1, 0.1) << "the mean gap is the unit";
  const std::string path = testing::TempDir() + "/arrivals.json";
  std::ofstream(path) << "[1, 2, 1.5]";
  EXPECT_THAT(std::string(ReadArrivals(path).status().message()), HasSubstr("entry 2 is no later time: 1.5"));
}

TEST(ParseLoadsTest, WhatIsNoLoadIsAnError) {
  for (const std::string list : {"", "Z", "A:", "A:5", "A:5/0", "A:5/6x", "AB", "C:1", "B:1x2/3 "}) {
    EXPECT_THAT(Error(list), HasSubstr("is no load")) << list;
  }
  EXPECT_THAT(Error("C:2@1"), HasSubstr("the trace has 1 requests, 2 are asked for"));
}

// The shapes of tests/bench/models.
model::DecoderSpec SpecOf(const std::string& name) {
  model::DecoderSpec spec{.hidden = name == "m1" ? 2048 : 4096, .vocab = name == "m1" ? 92544 : 128256};
  model::LayerSpec layer;
  layer.attention = {.q_heads = name == "m1" ? 16 : 32, .kv_heads = 8, .head_dim = 128};
  layer.mlp.intermediate = name == "m1" ? 8192 : 14336;
  spec.layers.assign(name == "m1" ? 24 : 32, layer);
  return spec;
}

Floor FloorOf(const std::string& model, const std::string& load) {
  TraceFiles files;
  files.trace = ReadTrace("tests/bench/trace.json", 2000, 1).value();
  const BenchLoad parsed = ParseLoads(load, files).value()[0];
  return ComputeFloor(SpecOf(model), parsed.requests, parsed.in_flight, {});
}

// The floors of the table that the engine is held against, within the rounding of what they were computed from.
TEST(ComputeFloorTest, AgreesWithTheKnownOnes) {
  EXPECT_NEAR(FloorOf("m1", "A:1024/512").token_ms, 0.76, 0.01);
  EXPECT_NEAR(FloorOf("m2", "A:1024/512").token_ms, 3.26, 0.01);
  EXPECT_NEAR(FloorOf("m1", "B:8x512/256").token_ms, 0.84, 0.01);
  EXPECT_NEAR(FloorOf("m2", "B:8x512/256").token_ms, 3.37, 0.01);
  EXPECT_NEAR(FloorOf("m1", "B:64x512/256").serial, 28700, 300);
  EXPECT_NEAR(FloorOf("m2", "B:256x512/256").serial, 13500, 100);
  EXPECT_NEAR(FloorOf("m1", "C:1000@256").serial, 48300, 700);
  EXPECT_NEAR(FloorOf("m1", "C:1000@256").overlapped, 56400, 1200);
  EXPECT_NEAR(FloorOf("m2", "C:2000@1024").serial, 18100, 200);
  EXPECT_NEAR(FloorOf("m2", "C:2000@1024").overlapped, 21400, 300);
  EXPECT_NEAR(FloorOf("m1", "D:1024").first_ms, 4.1, 0.1);
  EXPECT_NEAR(FloorOf("m2", "D:1024").first_ms, 18.5, 0.2);
}

TEST(ComputeFloorTest, AStepReadsTheWeightsOnceAndItsRowsKv) {
  const Floor floor = FloorOf("m2", "G:2x100/2");
  const double body = 32.0 * (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336), head = 4096.0 * 128256;
  EXPECT_DOUBLE_EQ(floor.step_bytes, 2 * (body + head) + 2 * 100 * 131072.0);
  EXPECT_DOUBLE_EQ(floor.step_flops, 2 * 2 * (body + head) + 2 * 100 * 32 * 4 * 4096.0);
}

TEST(LoadFiguresTest, CountsFromTheHandOver) {
  // Two requests, one of which waits for the other's end.
  RunTimes run{.requests = {{.added = 0, .first = 1, .last = 3, .tokens = 3}, {.added = 3, .first = 4, .last = 6, .tokens = 2}},
               .gaps = {1, 1, 2},
               .tokens = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {6, 1}},
               .end = 6};
  const std::vector<Figure> figures = LoadFigures({{.prompt = 5, .output = 3}, {.prompt = 7, .output = 2}}, {run});
  const auto value = [&](const std::string& name) { return FindFigure(figures, name)->median; };
  EXPECT_DOUBLE_EQ(value("ttft_mean"), 1000);
  EXPECT_DOUBLE_EQ(value("tpot_mean"), 1500);
  EXPECT_DOUBLE_EQ(value("itl_p50"), 1000);
  EXPECT_DOUBLE_EQ(value("itl_p99"), 1980);
  EXPECT_DOUBLE_EQ(value("output_rate"), 5 / 6.0);
  EXPECT_DOUBLE_EQ(value("total_rate"), 17 / 6.0);
  EXPECT_DOUBLE_EQ(value("latency_mean"), 3000);
  EXPECT_EQ(FindFigure(figures, "cached"), nullptr);
  EXPECT_DOUBLE_EQ(value("decode_rate"), 1 / 2.0);
}

TEST(LoadFiguresTest, TakesTheServersCountOfPrompts) {
  const RunTimes run{.requests = {{.first = 1, .last = 1, .tokens = 1, .prompt = 30, .cached = 20},
                                  {.first = 1, .last = 1, .tokens = 1, .prompt = 10}},
                     .end = 2};
  const std::vector<Figure> figures = LoadFigures({{.prompt = 5, .output = 1}, {.prompt = 7, .output = 1}}, {run});
  EXPECT_DOUBLE_EQ(FindFigure(figures, "cached")->median, 0.5);
  EXPECT_DOUBLE_EQ(FindFigure(figures, "total_rate")->median, 21);
}

TEST(LoadFiguresTest, ARunWhoseTokensComeAtOnceHasNoGaps) {
  const RunTimes pieces{.requests = {{.first = 1, .last = 2, .tokens = 2}}, .gaps = {1}, .tokens = {{1, 1}, {2, 1}}, .end = 2};
  const RunTimes whole{.requests = {{.first = 1, .last = 1, .tokens = 2}}, .tokens = {{1, 2}}, .end = 1};
  for (const std::vector<RunTimes>& runs : {std::vector{pieces, whole}, {whole, pieces, whole}}) {
    const std::vector<Figure> figures = LoadFigures({{.prompt = 5, .output = 2}}, runs);
    EXPECT_DOUBLE_EQ(FindFigure(figures, "itl_p99")->median, 1000);
    EXPECT_DOUBLE_EQ(FindFigure(figures, "decode_rate")->low, 1);
  }
  EXPECT_EQ(FindFigure(LoadFigures({{.prompt = 5, .output = 2}}, {whole}), "itl_mean"), nullptr);
}

TEST(LoadFiguresTest, GoodputCountsWhatMeetsTheObjective) {
  const RunTimes run{
      .requests = {{.added = 0, .first = 1, .last = 3, .tokens = 3}, {.added = 0, .first = 3, .last = 4, .tokens = 11}},
      .end = 4};
  const auto goodput = [&](const Objective& objective) {
    const std::vector<Figure> figures = LoadFigures({{5, 3}, {5, 11}}, {run}, objective);
    const Figure* const figure = FindFigure(figures, "goodput");
    return figure == nullptr ? -1 : figure->median;
  };
  EXPECT_EQ(goodput({}), -1);
  EXPECT_EQ(goodput({.ttft = 3000}), 0.5);
  EXPECT_EQ(goodput({.ttft = 2000}), 0.25);
  EXPECT_EQ(goodput({.tpot = 100}), 0.25);
  EXPECT_EQ(goodput({.ttft = 2000, .tpot = 100}), 0);
}

TEST(PlotSvgTest, ShowsEachRowInBothPanels) {
  const auto row = [](const char* name, double rate) {
    LoadRow row{.name = name};
    for (const char* figure : {"ttft_p50", "ttft_p99", "itl_p50", "itl_p99"})
      row.figures.push_back(MakeFigure(figure, "ms", {rate / 2}));
    row.figures.push_back(MakeFigure("output_rate", "tok/s", {rate}));
    return row;
  };
  const std::string svg = PlotSvg({row("slow", 100), row("fast", 730), {.name = "nothing"}});
  EXPECT_THAT(svg, testing::StartsWith("<svg "));
  EXPECT_THAT(svg, HasSubstr("<title>fast: p99 365 ms at 730 tok/s</title>"));
  EXPECT_THAT(svg, HasSubstr(">1000</text>")) << "a round end of the axis";
  EXPECT_THAT(svg, testing::Not(HasSubstr("nothing")));
  EXPECT_THAT(PlotSvg({}), HasSubstr("</svg>"));
}

TEST(LoadFiguresTest, TheMedianIsAmongRepeats) {
  const Figure figure = MakeFigure("x", "ms", {5, 1, 2});
  EXPECT_EQ(figure.median, 2);
  EXPECT_EQ(figure.low, 1);
  EXPECT_EQ(figure.high, 5);
  EXPECT_EQ(MakeFigure("x", "ms", {4, 2}).median, 3);
}

TEST(FormatRowTest, NamesTheFloorAndTheShareOfIt) {
  const Floor floor{.step_bytes = 3e9, .step_flops = 4e9, .token_ms = 0.8, .serial = 100, .overlapped = 120};
  LoadRow row{.kind = BenchLoad::Kind::kOne,
              .name = "A 1 x 5/6",
              .figures = {{.name = "tpot_mean", .unit = "ms", .median = 1.6, .low = 1.5, .high = 1.7}},
              .floor = floor};
  EXPECT_EQ(
      FormatRow(row),
      "A 1 x 5/6               tpot_mean 1.6 [1.5-1.7] ms  | step 3 GB, 4 GFLOP  | floor of tpot_mean 0.8, reached 50.0 %");
  row.kind = BenchLoad::Kind::kTrace;
  row.figures = {{.name = "output_rate", .unit = "tok/s", .median = 25, .low = 25, .high = 25}};
  EXPECT_THAT(FormatRow(row), HasSubstr("floor of output_rate 100 (overlapped 120), reached 25.0 %"));
  row.floor.reset();
  EXPECT_EQ(FormatRow(row), "A 1 x 5/6               output_rate 25 [25-25] tok/s");
}

}  // namespace
}  // namespace berth::cli
