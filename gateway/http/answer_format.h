#pragma once

#include <string>

#include "absl/status/status.h"
#include "proto/berth/v1/inference.pb.h"

namespace berth::http {

// How the messages of one generation become the answer that one API's clients read. Thread: one owner.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  virtual const char* stream_type() const { return "text/event-stream; charset=utf-8"; }
  // Of a streaming answer: text of zero or more events. There is one `finished` for each prompt; the last one's usage is that
  // of all.
  virtual std::string Format(const v1::StreamGenerateResponse& message) = 0;
  // The events that end the stream; an error first, unless it went well.
  virtual std::string End(const absl::Status& status) = 0;
  // What clients pass over, for silent times; "" when there is no such thing.
  virtual std::string Heartbeat() const { return ": alive\n\n"; }
  // The body of an answer that does not stream.
  virtual std::string Whole(const v1::GenerateResponse& response) = 0;
};

}  // namespace berth::http
