#include "kernels/device_facts.h"

#include <gtest/gtest.h>

namespace berth::kernels {
namespace {

std::string Message(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  return std::string(status.message());
}

TEST(DeviceFactsTest, ADriverMustKnowTheRuntime) {
  EXPECT_EQ(CheckDriver({.driver = 13000, .runtime = 13000}), absl::OkStatus());
  EXPECT_EQ(CheckDriver({.driver = 13000, .runtime = 13010}), absl::OkStatus()) << "another minor version";
  EXPECT_EQ(CheckDriver({.driver = 14000, .runtime = 13000}), absl::OkStatus());
  EXPECT_EQ(Message(CheckDriver({.driver = 12080, .runtime = 13000})),
            "the NVIDIA driver is for CUDA 12.8, want a driver for CUDA 13.0 or later");
  EXPECT_EQ(Message(CheckDriver({.driver = 0, .runtime = 13000})), "no CUDA device can be used: no NVIDIA driver is installed");
}

TEST(DeviceFactsTest, ADeviceMayBeTooOld) {
  EXPECT_EQ(CheckComputeCapability(0, {.name = "A100", .compute_capability = 80}), absl::OkStatus());
  EXPECT_EQ(CheckComputeCapability(0, {.name = "B200", .compute_capability = 100}), absl::OkStatus());
  EXPECT_EQ(Message(CheckComputeCapability(2, {.name = "Tesla T4", .compute_capability = 75})),
            "device 2, Tesla T4, has compute capability 7.5, want 8.0 or later");
}

}  // namespace
}  // namespace berth::kernels
