#include <atomic>
#include <map>
#include <sstream>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/counter.h"
#include "proto/rpc/http_listener.h"
#include "proto/rpc/process.h"

namespace berth::rpc {
namespace {

namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;

std::pair<int, std::string> Fetch(int port, const std::string& target, http::verb verb = http::verb::get) {
  boost::asio::io_context context;
  boost::beast::tcp_stream stream(context);
  stream.connect(tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(port)));
  http::write(stream, http::request<http::empty_body>(verb, target, 11));
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::read(stream, buffer, response);
  return {response.result_int(), response.body()};
}

TEST(HttpListener, ServesProbesAndMetrics) {
  prometheus::Registry registry;
  prometheus::BuildCounter().Name("berth_test_total").Help("h").Register(registry).Add({}).Increment(3);
  std::atomic<bool> ready = false;
  auto listener = HttpListener::Start({.live = [] { return true; },
                                       .ready = [&] { return ready.load(); },
                                       .metrics = [&] { return SerializeMetrics(registry); }});
  ASSERT_TRUE(listener.ok()) << listener.status();
  const int port = (*listener)->port();
  EXPECT_EQ(Fetch(port, "/live").first, 200);
  EXPECT_EQ(Fetch(port, "/ready").first, 503);
  ready = true;
  EXPECT_EQ(Fetch(port, "/ready").first, 200);
  EXPECT_THAT(Fetch(port, "/metrics").second, testing::HasSubstr("berth_test_total 3"));
  EXPECT_EQ(Fetch(port, "/else").first, 404);
  EXPECT_EQ(Fetch(port, "/live", http::verb::delete_).first, 405);
}

TEST(SerializeMetrics, TellsOfTheProcess) {
  std::map<std::string, double> values;
  std::istringstream text(SerializeMetrics(prometheus::Registry()));
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('#')) continue;
    const size_t blank = line.rfind(' ');
    values[line.substr(0, line.find_first_of("{ "))] = std::stod(line.substr(blank));
  }
  EXPECT_GT(values["process_resident_memory_bytes"], 1 << 20);
  EXPECT_TRUE(values.contains("berth_allocated_bytes"));
  EXPECT_GT(values["process_open_fds"], 2);
  EXPECT_GT(values["process_max_fds"], values["process_open_fds"]);
  EXPECT_GE(values["process_threads"], 1);
  EXPECT_GE(values["process_cpu_seconds_total"], 0);
  const double age = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()) - values["process_start_time_seconds"];
  EXPECT_GT(age, -2);
  EXPECT_LT(age, 3600);
  EXPECT_EQ(values["berth_build_info"], 1);
}

TEST(HttpListener, AnOccupiedPortIsOneClearError) {
  const HttpListenerOptions options{.live = [] { return true; }, .ready = [] { return true; }, .metrics = [] { return ""; }};
  auto first = HttpListener::Start(options);
  ASSERT_TRUE(first.ok());
  HttpListenerOptions again = options;
  again.port = (*first)->port();
  EXPECT_EQ(HttpListener::Start(again).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace berth::rpc
