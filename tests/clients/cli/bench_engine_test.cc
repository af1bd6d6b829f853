#include "clients/cli/bench_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "clients/cli/bench_shares.h"
#include "nlohmann/json.hpp"
#include "tests/clients/cli/stalling_clock.h"
#include "worker/runtime/sim_executor.h"

namespace berth::cli {
namespace {

using testing::HasSubstr;

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST(ReadTraceTest, ReadsTheFirstRequestsAndShortensThem) {
  const auto trace = ReadTrace(WriteFile("trace.json", "[[10, 20], [7, 3], [4, 4]]"), 2, 5);
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].prompt, 2);
  EXPECT_EQ((*trace)[0].output, 4);
  EXPECT_EQ((*trace)[1].prompt, 1);
  EXPECT_EQ((*trace)[1].output, 1) << "no length becomes zero";
}

TEST(ReadTraceTest, TheCheckedInTraceIsWhole) {
  const auto trace = ReadTrace("tests/bench/trace.json", 1 << 20, 1);
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->size(), 2000u);
  int prompts = 0, outputs = 0;
  for (const TraceRequest& request : *trace) {
    prompts += request.prompt;
    outputs += request.output;
    EXPECT_GE(request.prompt, 4);
    EXPECT_LE(request.prompt, 1024);
    EXPECT_GE(request.output, 4);
    EXPECT_LE(request.output, 1024);
  }
  // As tests/bench/trace.py counts them, with the digests of the trace that the peers were measured with.
  EXPECT_EQ(prompts, 455687);
  EXPECT_EQ(outputs, 415891);
}

TEST(ReadTraceTest, ErrorsNameTheFileAndTheEntry) {
  EXPECT_EQ(ReadTrace("/nowhere.json", 1, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTrace("/tmp", 1, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTrace(WriteFile("broken.json", "[[1,"), 1, 1).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status status = ReadTrace(WriteFile("odd.json", "[[1, 2], [3, \"x\"]]"), 5, 1).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("entry 1 is no pair of lengths with a later time: [3,\"x\"]"));
}

TEST(ReadSharesTest, ABarForEveryEngine) {
  const std::string report = WriteFile("report.json", R"({"model": "m", "rows": [
      {"name": "A 1 x 2/3", "floor": {"share": 0.8}}, {"name": "B", "floor": {"share": 0.5}}, {"name": "P"}]})");
  const std::string peers = WriteFile(
      "peers.json",
      R"({"m": {"A 1 x 2/3": {"unit": "ms", "floor": 2, "Other": 4}, "B": {"unit": "tok/s", "floor": 8, "Other": 6}}})");
  const auto table = ReadShares(report, peers);
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_EQ(table->rows.size(), 2u) << "an open load has no floor";
  using Share = std::pair<std::string, double>;
  EXPECT_THAT(table->rows[0].shares, testing::ElementsAre(Share("Berth", 0.8), Share("Other", 0.5)));
  EXPECT_THAT(table->rows[1].shares, testing::ElementsAre(Share("Berth", 0.5), Share("Other", 0.75)));
  const std::string svg = SharesSvg({*table});
  EXPECT_THAT(svg, testing::AllOf(HasSubstr("A 1 x 2/3</text>"), HasSubstr(">75</text>"), HasSubstr("Other</text>")));
}

TEST(ReadSharesTest, ErrorsNameTheFileAndTheLoad) {
  const std::string report = WriteFile("report.json", R"({"model": "m", "rows": [{"name": "A", "floor": {"share": 0.8}}]})");
  EXPECT_EQ(ReadShares("/nowhere.json", report).status().message(), "cannot read /nowhere.json");
  EXPECT_EQ(ReadShares("/tmp", report).status().message(), "cannot read /tmp");
  EXPECT_THAT(std::string(ReadShares(WriteFile("odd.json", "{}"), report).status().message()), HasSubstr("no report of loads"));
  const std::string peers = WriteFile("peers.json", R"({"m": {"A": {"unit": "ms", "floor": 2, "Other": "fast"}}})");
  EXPECT_THAT(std::string(ReadShares(report, peers).status().message()), HasSubstr("A, Other is no figure: \"fast\""));
}

TEST(ReadSharesTest, TheCheckedInChartIsOfTheCheckedInReports) {
  std::vector<ShareTable> tables;
  for (const char* report : {"tests/bench/reports/m1_h200.json", "tests/bench/reports/m2_h200.json"}) {
    const auto table = ReadShares(report, "tests/bench/peers.json");
    ASSERT_TRUE(table.ok()) << table.status();
    for (const ShareRow& row : table->rows) EXPECT_EQ(row.shares.size(), 3u) << report << ", " << row.name;
    tables.push_back(*table);
  }
  std::ifstream file("docs/images/engine_shares.svg");
  EXPECT_EQ(SharesSvg(tables), std::string(std::istreambuf_iterator<char>(file), {}));
}

TEST(EngineBenchTest, BadOptionsAndModelsAreErrors) {
  EXPECT_EQ(RunEngineBench({.device = {.model = "x"}, .repeats = 0}).status().message(), "repeats 0, want at least 1");
  EXPECT_EQ(RunEngineBench({.device = {.model = "/nowhere.gguf"}}).status().code(), absl::StatusCode::kNotFound);
}

TEST(KernelTimesTest, SumsBySymbolUnderShortNames) {
  KernelTimes times;
  const std::string symbol = "_ZN5berth7kernels4cuda12_GLOBAL__N_16SampleI13__nv_bfloat16EEvPKT_i";
  times.Add(symbol, 3'000'000, 6'000'000);
  // Starts beside the one before and waits for it.
  times.Add("nvjet_sm90_tst", 4'000'000, 7'000'000);
  times.Add(symbol, 1'000'000, 3'000'000);
  const std::vector<KernelTime> kernels = times.Take();
  ASSERT_EQ(kernels.size(), 2u);
  EXPECT_EQ(kernels[0].name, "Sample<__nv_bfloat16>");
  EXPECT_EQ(kernels[0].calls, 2);
  EXPECT_DOUBLE_EQ(kernels[0].seconds, 5e-3);
  EXPECT_EQ(kernels[1].name, "nvjet_sm90_tst");
  EXPECT_DOUBLE_EQ(kernels[1].seconds, 1e-3);
  EXPECT_TRUE(times.Take().empty());
}

TEST(FormatKernelsTest, TheLongestFirstWithTheirShare) {
  const std::vector<KernelTime> kernels = {{.name = "Product", .calls = 100, .seconds = 3e-3},
                                           {.name = "Attend<128>", .calls = 4, .seconds = 1e-3},
                                           {.name = "Rest"}};
  EXPECT_EQ(FormatKernels(kernels, 2),
            "   75.0 %      100 x     30.00 us  Product\n"
            "   25.0 %        4 x    250.00 us  Attend<128>\n");
  EXPECT_EQ(FormatKernels({}, 5), "");
}

// A real engine on random weights: each kind of load gives its row, and every answer has its length.
TEST(EngineBenchTest, RunsEveryKindOfLoad) {
  const std::vector<BenchLoad> loads = ParseLoads("A:5/4,B:3x6/4,C:5@2,P:3@1000,D:7,G:2x4/3",
                                                  {.trace = {{4, 2}, {3, 5}, {6, 1}, {2, 2}, {5, 3}}, .arrivals = {0.5, 1, 2}})
                                           .value();
  std::vector<std::string> heard;
  const auto report = RunEngineBench(
      {.device = {.model = "tests/golden/models/tiny/llama", .load_format = loader::LoadFormat::kRandom, .threads = 1},
       .repeats = 2,
       .loads = loads},
      [&](const LoadRow& row) { heard.push_back(row.name); });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(heard,
              testing::ElementsAre("A 1 x 5/4", "B 3 x 6/4", "C trace 5 @ 2", "P 3 at 1000/s", "D 1 x 7/1", "G 2 x 4/3"));
  for (const LoadRow& row : report->rows) {
    SCOPED_TRACE(row.name);
    const Figure* const first = FindFigure(row.figures, "ttft_mean");
    ASSERT_NE(first, nullptr);
    EXPECT_GT(first->low, 0);
    EXPECT_LE(first->low, first->high);
    EXPECT_EQ(FindFigure(row.figures, "tpot_mean") == nullptr, row.kind == BenchLoad::Kind::kFirstToken);
    ASSERT_NE(FindFigure(row.figures, "host_step"), nullptr);
    EXPECT_GT(FindFigure(row.figures, "host_step")->low, 0);
    EXPECT_FALSE(row.floor.has_value()) << "floors are a GPU's";
    EXPECT_THAT(FormatRow(row), HasSubstr(row.name));
  }
  const nlohmann::json json = nlohmann::json::parse(ToJson(*report));
  EXPECT_EQ(json["dtype"], "f32") << "the CPU's";
  EXPECT_EQ(json["rows"].size(), 6u);
  EXPECT_EQ(json["rows"][2]["name"], "C trace 5 @ 2");
}

TEST(EngineBenchTest, RunsTheSmallCases) {
  const auto report = RunEngineBench(
      {.device = {.model = "tests/golden/models/tiny/llama", .load_format = loader::LoadFormat::kRandom, .threads = 1},
       .repeats = 1,
       .streams = 2,
       .decode_tokens = 3,
       .prompt_tokens = 20,
       .trace = {{3, 2}, {9, 4}}});
  ASSERT_TRUE(report.ok()) << report.status();
  std::vector<std::string> names;
  for (const Figure& figure : report->figures) names.push_back(figure.name);
  EXPECT_THAT(names, testing::ElementsAre("decode_1", "decode_2", "prompt_20", "trace"));
}

TEST(EngineDriverTest, AnOpenLoadsTimesCountFromItsArrivals) {
  const StallingClock clock;
  BenchProgress progress(/*total=*/0);
  EngineDriver driver(
      std::make_unique<runtime::SimExecutor>(runtime::SimExecutorOptions{.device = {.vocabulary = {.begin = 3, .end = 100}}}),
      2, 100, progress, clock);
  const auto times = driver.Run({{.prompt = 3, .output = 2}, {.prompt = 3, .output = 2, .arrival = 0.001}}, 0);
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->requests[0].added, 0);
  EXPECT_EQ(times->requests[1].added, 0.001) << "however late the program handed it over";
  EXPECT_GE(times->requests[1].first, 2 * kStall);
}

TEST(EngineBenchTest, TheReportIsJson) {
  const EngineBenchReport report{.model = "m",
                                 .threads = 2,
                                 .repeats = 3,
                                 .figures = {{.name = "decode_1", .unit = "tok/s", .median = 5, .low = 4, .high = 6}}};
  const nlohmann::json json = nlohmann::json::parse(ToJson(report));
  EXPECT_EQ(json["model"], "m");
  EXPECT_EQ(json["figures"]["decode_1"]["median"], 5);
  EXPECT_EQ(json["figures"]["decode_1"]["high"], 6);
}

}  // namespace
}  // namespace berth::cli
