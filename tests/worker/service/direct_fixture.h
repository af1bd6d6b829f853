#pragma once

#include "gtest/gtest.h"
#include "tests/support/test_worker.h"

namespace berth::service {

// A worker that callers call without a gateway.
class DirectTest : public ::testing::Test {
 protected:
  // Until every KV block is free: the engine frees them within a step of the end.
  void AwaitFreeKv() {
    v1::LoadReport load;
    do {
      load = worker_.Load();
    } while (load.running() + load.waiting() + load.kv_blocks_used() > 0);
  }
  berth::testing::TestWorker worker_;
};

}  // namespace berth::service
