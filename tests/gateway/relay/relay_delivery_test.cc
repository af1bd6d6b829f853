#include "tests/gateway/relay/relay_fixture.h"

namespace berth::relay {
namespace {

// Notes when it is told that there is something to read.
class Reader : public FakeCaller {
 public:
  Reader(Relay& relay, int connection, std::vector<int>& told) : FakeCaller(relay), connection_(connection), told_(told) {}
  int connection() override { return connection_; }
  void OnReadable() override {
    told_.push_back(connection_);
    FakeCaller::OnReadable();
  }

 private:
  const int connection_;
  std::vector<int>& told_;
};

TEST_F(RelayTest, StreamsThatShareAConnectionAreReadTogetherAndBeforeThoseAlone) {
  MakeAttached(1);
  std::vector<int> told;
  std::vector<std::unique_ptr<Reader>> readers;
  v1::AttachResponse frame;
  for (const int connection : {1, 8, 2, 7, -1, 8, 3, 7}) {
    readers.push_back(std::make_unique<Reader>(*relay_, connection, told));
    readers.back()->Open(Request());
    v1::StreamEvent& event = *frame.add_events();
    event.set_stream_id(workers_.TakeSubmits("w0").back().stream_id());
    event.mutable_delta()->set_text("x");
  }
  told.clear();
  v1::AttachResponse next = workers_.Frame("w0");
  *next.mutable_events() = frame.events();
  workers_.Send("w0", next);
  EXPECT_THAT(told, ::testing::ElementsAre(-1, 7, 7, 8, 8, 1, 2, 3));
  for (const auto& reader : readers) EXPECT_EQ(reader->text(), "x");
}

}  // namespace
}  // namespace berth::relay
