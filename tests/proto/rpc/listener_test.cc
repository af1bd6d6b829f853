#include <atomic>
#include <string>

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
