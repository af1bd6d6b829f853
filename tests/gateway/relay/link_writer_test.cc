#include "gateway/relay/link_writer.h"

#include <gtest/gtest.h>

namespace berth::relay {
namespace {

v1::Submit Submit(uint64_t id, size_t prompt_bytes = 10) {
  v1::Submit submit;
  submit.set_stream_id(id);
  submit.mutable_generation()->mutable_prompt()->set_text(std::string(prompt_bytes, 'x'));
  return submit;
}

v1::LinkCancel Cancel(uint64_t id) {
  v1::LinkCancel cancel;
  cancel.set_stream_id(id);
  return cancel;
}

TEST(LinkWriterTest, NothingToSendIsNoFrame) {
  LinkWriter writer;
  EXPECT_FALSE(writer.Next(true).has_value());
}

TEST(LinkWriterTest, OneFrameCarriesWhatGathered) {
  LinkWriter writer;
  writer.Submit(Submit(1));
  writer.Submit(Submit(2));
  EXPECT_TRUE(writer.Cancel(Cancel(7)));
  v1::Reattach reattach;
  reattach.set_stream_id(3);
  writer.Reattach(reattach);
  const auto frame = writer.Next(false);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->submits_size(), 2);
  EXPECT_EQ(frame->cancels_size(), 1);
  EXPECT_EQ(frame->reattaches_size(), 1);
  EXPECT_FALSE(writer.Next(false).has_value());
}

TEST(LinkWriterTest, ACancelOvertakesItsUnsentSubmit) {
  LinkWriter writer;
  writer.Submit(Submit(1));
  writer.Submit(Submit(2, 1 << 20));
  EXPECT_FALSE(writer.Cancel(Cancel(1)));
  EXPECT_FALSE(writer.Cancel(Cancel(2)));
  EXPECT_FALSE(writer.Next(true).has_value());
}

TEST(LinkWriterTest, ACancelStopsTheRestOfALargePrompt) {
  LinkWriter writer;
  writer.Submit(Submit(1, 1 << 20));
  ASSERT_TRUE(writer.Next(false).has_value());
  EXPECT_TRUE(writer.Cancel(Cancel(1)));
  const auto frame = writer.Next(false);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->cancels(0).stream_id(), 1u);
  EXPECT_EQ(frame->prompt_chunks_size(), 0);
  EXPECT_FALSE(writer.Next(false).has_value());
}

TEST(LinkWriterTest, ACancelOvertakesItsUnsentReattach) {
  LinkWriter writer;
  v1::Reattach reattach;
  reattach.set_stream_id(3);
  reattach.set_request_id("r");
  writer.Reattach(reattach);
  v1::LinkCancel cancel = Cancel(3);
  cancel.set_request_id("r");
  EXPECT_FALSE(writer.Cancel(cancel)) << "nothing more is heard of the stream";
  const auto frame = writer.Next(false);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->reattaches_size(), 0);
  ASSERT_EQ(frame->cancels_size(), 1) << "what is parked there ends";
  EXPECT_EQ(frame->cancels(0).stream_id(), 0u);
  EXPECT_EQ(frame->cancels(0).request_id(), "r");
}

TEST(LinkWriterTest, ALargePromptFollowsInChunksThatJoinToIt) {
  LinkWriter writer;
  const v1::Submit large = Submit(1, 200 << 10);
  writer.Submit(large);
  std::string data;
  int frames = 0;
  bool last = false;
  while (const auto frame = writer.Next(false)) {
    ++frames;
    EXPECT_LE(frame->ByteSizeLong(), 70u << 10);
    for (const v1::Submit& submit : frame->submits()) {
      EXPECT_TRUE(submit.prompt_follows());
      EXPECT_FALSE(submit.generation().has_prompt());
    }
    for (const v1::PromptChunk& chunk : frame->prompt_chunks()) {
      EXPECT_EQ(chunk.stream_id(), 1u);
      EXPECT_LE(chunk.data().size(), 64u << 10);
      EXPECT_FALSE(last);
      data += chunk.data();
      last = chunk.last();
    }
  }
  EXPECT_TRUE(last);
  EXPECT_EQ(frames, 4);
  v1::Prompt prompt;
  ASSERT_TRUE(prompt.ParseFromString(data));
  EXPECT_EQ(prompt.text(), large.generation().prompt().text());
}

TEST(LinkWriterTest, ASmallSubmitDoesNotWaitForALargePrompt) {
  LinkWriter writer;
  writer.Submit(Submit(1, 10 << 20));
  ASSERT_TRUE(writer.Next(false).has_value());
  writer.Submit(Submit(2));
  EXPECT_TRUE(writer.Cancel(Cancel(9)));
  const auto frame = writer.Next(false);
  ASSERT_TRUE(frame.has_value());
  EXPECT_EQ(frame->submits(0).stream_id(), 2u);
  EXPECT_EQ(frame->cancels_size(), 1);
}

TEST(LinkWriterTest, ManySubmitsSpreadOverFrames) {
  LinkWriter writer;
  for (int i = 1; i <= 10; ++i) writer.Submit(Submit(i, 30 << 10));
  uint64_t next = 1;
  while (const auto frame = writer.Next(false)) {
    EXPECT_LE(frame->ByteSizeLong(), 128u << 10);
    for (const v1::Submit& submit : frame->submits()) EXPECT_EQ(submit.stream_id(), next++);
  }
  EXPECT_EQ(next, 11u);
}

TEST(LinkWriterTest, AcknowledgementsRideOnFramesAndMakeOneWhenAsked) {
  LinkWriter writer;
  writer.Acknowledge(4);
  EXPECT_FALSE(writer.Next(false).has_value());
  EXPECT_EQ(writer.Next(true)->acknowledged_frame(), 4u);
  EXPECT_FALSE(writer.Next(true).has_value()) << "nothing new to acknowledge";
  writer.Acknowledge(5);
  writer.Submit(Submit(1));
  EXPECT_EQ(writer.Next(false)->acknowledged_frame(), 5u);
  EXPECT_FALSE(writer.Next(true).has_value());
}

}  // namespace
}  // namespace berth::relay
