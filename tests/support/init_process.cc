// Linked into every test that speaks gRPC: sets the test process up as a main does.
#include "gtest/gtest.h"
#include "proto/rpc/process.h"

namespace {

class InitProcess : public testing::Environment {
 public:
  void SetUp() override { berth::rpc::InitProcess(); }
};

[[maybe_unused]] testing::Environment* const kEnvironment = testing::AddGlobalTestEnvironment(new InitProcess);

}  // namespace
