#include "gateway/relay/series.h"

#include "gtest/gtest.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace berth::relay {
namespace {

TEST(SeriesTest, CountsByTheValuesOfItsLabels) {
  prometheus::Registry registry;
  Series<prometheus::Counter> series(prometheus::BuildCounter().Name("calls_total").Register(registry), {"method", "code"});
  series.Of({"Get", "OK"}).Increment();
  series.Of({"Get", "OK"}).Increment();
  series.Of({"GetO", "K"}).Increment();
  const std::string text = prometheus::TextSerializer().Serialize(registry.Collect());
  EXPECT_NE(text.find("calls_total{code=\"OK\",method=\"Get\"} 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("calls_total{code=\"K\",method=\"GetO\"} 1\n"), std::string::npos) << text;
}

TEST(SeriesTest, AHistogramHasItsBuckets) {
  prometheus::Registry registry;
  Series<prometheus::Histogram> series(prometheus::BuildHistogram().Name("seconds").Register(registry), {"method"}, {0.5, 2});
  series.Of({"Get"}).Observe(1);
  const std::string text = prometheus::TextSerializer().Serialize(registry.Collect());
  EXPECT_NE(text.find("seconds_bucket{method=\"Get\",le=\"0.5\"} 0\n"), std::string::npos) << text;
  EXPECT_NE(text.find("seconds_bucket{method=\"Get\",le=\"2\"} 1\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace berth::relay
