#include "clients/cli/http_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace berth::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kChunked[] =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    "8\r\ndata: a\n\r\n9;x=y\r\n\r\ndata: \xc3\r\n4\r\n\xa9\n\nz\r\n0\r\n\r\n";
constexpr char kSized[] = "HTTP/1.1 429 Too Many\r\ncontent-length: 7\r\nConnection: close\r\n\r\none\ntwo";

struct Read {
  HttpAnswer answer;
  absl::Status status;
  std::vector<std::string> lines;
};

Read Feed(const std::string& bytes, size_t step) {
  Read read;
  for (size_t at = 0; at < bytes.size() && read.status.ok(); at += step) {
    read.status = read.answer.Feed(bytes.substr(at, step), [&](absl::string_view line) { read.lines.emplace_back(line); });
  }
  return read;
}

TEST(HttpAnswerTest, ReadsLinesHoweverTheBytesAreCut) {
  for (size_t step = 1; step < sizeof(kChunked); ++step) {
    const Read chunked = Feed(kChunked, step);
    EXPECT_THAT(chunked.lines, ElementsAre("data: a", "", "data: \xc3\xa9", "", "z")) << step;
    EXPECT_TRUE(chunked.answer.done() && chunked.answer.code() == 200 && chunked.answer.keeps_connection()) << step;
    const Read sized = Feed(kSized, step);
    EXPECT_THAT(sized.lines, ElementsAre("one", "two")) << step;
    EXPECT_TRUE(sized.answer.done() && sized.answer.code() == 429 && !sized.answer.keeps_connection()) << step;
  }
  EXPECT_FALSE(Feed(std::string(kChunked).substr(0, sizeof(kChunked) - 3), 100).answer.done());
}

TEST(HttpAnswerTest, WhatIsNoAnswerIsNamed) {
  for (const char* bytes : {"SSH-2.0-x\r\n\r\n", "HTTP/1.1 200\r\nX: y\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: x\r\n\r\n",
                            "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    EXPECT_THAT(std::string(Feed(bytes, 7).status.message()), HasSubstr("not an HTTP/1.1 answer")) << bytes;
  }
}

}  // namespace
}  // namespace berth::cli
