#include "clients/cli/bench_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "nlohmann/json.hpp"

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
  EXPECT_EQ(trace->size(), 256u);
  for (const TraceRequest& request : *trace) {
    EXPECT_GE(request.prompt, 4);
    EXPECT_LE(request.prompt, 1024);
    EXPECT_GE(request.output, 4);
    EXPECT_LE(request.output, 1024);
  }
}

TEST(ReadTraceTest, ErrorsNameTheFileAndTheEntry) {
  EXPECT_EQ(ReadTrace("/nowhere.json", 1, 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTrace(WriteFile("broken.json", "[[1,"), 1, 1).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status status = ReadTrace(WriteFile("odd.json", "[[1, 2], [3, \"x\"]]"), 5, 1).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("entry 1 is no pair of lengths: [3,\"x\"]"));
}

TEST(EngineBenchTest, BadOptionsAndModelsAreErrors) {
  EXPECT_EQ(RunEngineBench({.model = "x", .repeats = 0}).status().message(), "repeats 0, want at least 1");
  EXPECT_EQ(RunEngineBench({.model = "/nowhere.gguf"}).status().code(), absl::StatusCode::kNotFound);
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
