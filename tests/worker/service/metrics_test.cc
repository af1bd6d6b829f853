#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "proto/rpc/status.h"
#include "tests/support/test_worker.h"
#include "tests/worker/service/core_fixture.h"

namespace berth::service {
namespace {

using berth::testing::ChatSpec;
using berth::testing::CollectingSink;
using berth::testing::CoreFixture;
using berth::testing::GatedJournal;

class MetricsTest : public ::testing::Test {
 protected:
  // The one with a label of this value, if that is given.
  prometheus::ClientMetric Metric(const std::string& name, const std::string& label = "") {
    for (const prometheus::MetricFamily& family : fixture_.registry.Collect()) {
      if (family.name != name) continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        if (label.empty()) return metric;
        for (const prometheus::ClientMetric::Label& own : metric.label) {
          if (own.value == label) return metric;
        }
      }
    }
    ADD_FAILURE() << "no " << name << " " << label;
    return {};
  }
  double Ended(const std::string& reason) { return Metric("vllm:request_success_total", reason).counter.value; }
  // Its deadline passes before its first step.
  void RunLate(CollectingSink& sink) {
    sink.core = &fixture_.core;
    fixture_.OnShard([&] {
      const auto spec = std::make_shared<const v1::GenerationSpec>(ChatSpec("late", "hello", 5));
      fixture_.core.Submit({.spec = spec, .timeout = absl::ZeroDuration()}, sink, 1);
    });
    sink.ended.Wait();
  }

  CoreFixture fixture_{"w", std::make_shared<GatedJournal::State>()};
};

TEST_F(MetricsTest, AStepCountsTheTokensThatItComputes) {
  v1::GenerationSpec spec = ChatSpec("r", "", 2);
  for (int i = 0; i < 300; ++i) spec.mutable_prompt()->mutable_token_ids()->add_ids(text::SimVocabulary::kFirstPiece);
  CollectingSink sink, late;
  fixture_.Run(spec, sink);
  RunLate(late);
  const prometheus::ClientMetric::Histogram tokens = Metric("vllm:iteration_tokens_total").histogram;
  EXPECT_EQ(tokens.sample_count, 4) << "of 128, 128, 44 and 1";
  EXPECT_EQ(tokens.sample_sum, 301);
}

TEST_F(MetricsTest, WhatNobodyWaitsForOrGoesElsewhereWasAbortedNotAnError) {
  CollectingSink cancelled, late, handed_over, failed;
  cancelled.core = &fixture_.core;
  fixture_.OnShard([&] {
    const auto spec = std::make_shared<const v1::GenerationSpec>(ChatSpec("cancelled", "hello", 5));
    EXPECT_TRUE(fixture_.core.Cancel(*fixture_.core.Submit({.spec = spec}, cancelled, 1)));
  });
  cancelled.ended.Wait();
  EXPECT_EQ(Ended("abort"), 1);
  RunLate(late);
  EXPECT_EQ(Ended("abort"), 2);
  const auto fail = [&](CollectingSink& sink, const char* reason) {
    fixture_.Submit(ChatSpec(reason, "hello", 3000), sink);
    fixture_.AwaitTokens(3);
    fixture_.OnShard([&] { fixture_.core.FailAll(rpc::ErrorWithReason(absl::StatusCode::kUnavailable, reason, "")); });
  };
  fail(handed_over, "DRAINING");
  EXPECT_EQ(Ended("abort"), 3);
  EXPECT_EQ(Ended("error"), 0);
  fail(failed, "WORKER_LOST");
  EXPECT_EQ(Ended("abort"), 3);
  EXPECT_EQ(Ended("error"), 1);
}

}  // namespace
}  // namespace berth::service
