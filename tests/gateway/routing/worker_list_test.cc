#include "gateway/routing/worker_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace berth::routing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(WorkerListTest, ReadsIdsAndAddressesInOrder) {
  const auto workers = ParseWorkerList("w0=127.0.0.1:7000,w1=host.example:80,w2=[::1]:65535");
  ASSERT_TRUE(workers.ok()) << workers.status();
  EXPECT_THAT(*workers, ElementsAre(WorkerAddress{"w0", "127.0.0.1:7000"}, WorkerAddress{"w1", "host.example:80"},
                                    WorkerAddress{"w2", "[::1]:65535"}));
}

TEST(WorkerListTest, NamesTheMalformedEntry) {
  for (const char* entry :
       {"", "w0", "w0=", "=host:1", "w0=host", "w0=:7000", "w0=host:", "w0=host:0", "w0=host:65536", "w0=host:x"}) {
    const auto workers = ParseWorkerList(std::string("good=host:1,") + entry);
    ASSERT_EQ(workers.status().code(), absl::StatusCode::kInvalidArgument) << entry;
    EXPECT_THAT(std::string(workers.status().message()), HasSubstr('"' + std::string(entry) + '"'));
  }
  EXPECT_FALSE(ParseWorkerList("").ok());
}

TEST(WorkerListTest, RefusesAnIdTwice) {
  EXPECT_THAT(std::string(ParseWorkerList("a=h:1,b=h:2,a=h:3").status().message()), HasSubstr("\"a\" is listed twice"));
}

}  // namespace
}  // namespace berth::routing
