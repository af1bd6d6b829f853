#include "gateway/discovery/file_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "gateway/discovery/discovery.h"
#include "tests/gateway/discovery/reports.h"

namespace berth::discovery {
namespace {

using routing::WorkerAddress;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FileSourceTest : public ::testing::Test {
 protected:
  FileSourceTest() { std::filesystem::create_directories(folder_); }
  ~FileSourceTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& text, const std::string& name = "workers") { std::ofstream(folder_ + "/" + name) << text; }

  const std::string folder_ = ::testing::TempDir() + "/" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::string path_ = folder_ + "/workers";
  Reports reports_;
};

const WorkerAddress kA = {"a", "host:1"}, kB = {"b", "host:2"};

TEST_F(FileSourceTest, EntriesStandOnLinesOrBetweenCommas) {
  Write("# all of them\na=host:1, b=host:2  # two\n\n");
  EXPECT_THAT(*ReadWorkerFile(path_), ElementsAre(kA, kB));
}

TEST_F(FileSourceTest, ErrorsNameTheFileAndTheEntry) {
  EXPECT_THAT(std::string(ReadWorkerFile(path_).status().message()), HasSubstr(path_));
  Write("# nobody\n");
  EXPECT_THAT(std::string(ReadWorkerFile(path_).status().message()), HasSubstr("names no worker"));
  Write("a=host:1\nb\n");
  const std::string message(ReadWorkerFile(path_).status().message());
  EXPECT_THAT(message, HasSubstr(path_));
  EXPECT_THAT(message, HasSubstr("\"b\""));
  EXPECT_FALSE(Discovery::Make({.workers = "file:" + path_}).ok());
}

TEST_F(FileSourceTest, WritesAndRenamesAreSeen) {
  Write("a=host:1");
  const FileSource source(path_, {kA}, reports_.Sink());
  Write("a=host:1\nb=host:2");
  absl::StatusOr<std::vector<WorkerAddress>> report = reports_.Next();
  while (!report.ok() && !absl::IsDeadlineExceeded(report.status())) report = reports_.Next();  // half written
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(*report, ElementsAre(kA, kB));
  Write("b=host:2", "next");
  std::filesystem::rename(folder_ + "/next", path_);
  EXPECT_THAT(*reports_.Next(), ElementsAre(kB));
}

TEST_F(FileSourceTest, ABrokenFileIsReportedAndTheNextGoodOneIsTaken) {
  Write("a=host:1");
  const FileSource source(path_, {kA}, reports_.Sink());
  Write("nonsense", "next");
  std::filesystem::rename(folder_ + "/next", path_);
  EXPECT_EQ(reports_.Next().status().code(), absl::StatusCode::kInvalidArgument);
  Write("b=host:2", "next");
  std::filesystem::rename(folder_ + "/next", path_);
  absl::StatusOr<std::vector<WorkerAddress>> report = reports_.Next();
  while (absl::IsInvalidArgument(report.status())) report = reports_.Next();  // seen at the start and by its event
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(*report, ElementsAre(kB));
}

TEST(DiscoveryTest, AStaticListIsKnownAtOnce) {
  absl::StatusOr<std::unique_ptr<Discovery>> discovery = Discovery::Make({.workers = "a=host:1,b=host:2"});
  ASSERT_TRUE(discovery.ok());
  EXPECT_THAT((*discovery)->first(), ElementsAre(kA, kB));
  EXPECT_FALSE(Discovery::Make({.workers = "a=host"}).ok());
}

}  // namespace
}  // namespace berth::discovery
