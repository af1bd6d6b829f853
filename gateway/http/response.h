#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/berth/v1/inference.pb.h"
#include "proto/berth/v1/model.pb.h"

namespace berth::http {

// What every answer to one request repeats.
struct ResponseHead {
  bool chat = false;
  bool include_usage = false;
  bool logprobs = false;
  // Each of the prompts has so many choices; theirs are numbered one prompt after the other.
  int choice_count = 1;
  int prompt_count = 1;
  int64_t created = 0;
  // Set from the stream's first message.
  std::string request_id;
  std::string model;
};

// The events of a streaming answer, as OpenAI's clients read them. Thread: one owner.
class EventFormatter {
 public:
  explicit EventFormatter(ResponseHead head);

  // Text of zero or more events. `started` opens every choice of a chat with its role. There is one `finished` for each prompt;
  // the last one's usage is that of all.
  std::string Format(const v1::StreamGenerateResponse& message);
  // The events that end the stream: an error first, unless it went well, then [DONE].
  static std::string End(const absl::Status& status);

 private:
  std::string FormatStarted(const v1::Started& started);
  std::string FormatDelta(const v1::Delta& delta);
  std::string FormatFinished(const v1::Finished& finished);

  ResponseHead head_;
  // Per choice: characters of the tokens so far, for text offsets.
  std::vector<int64_t> offsets_;
  int finished_prompts_ = 0;
};

// The body of an answer that does not stream. `head.request_id` and `head.model` are taken from the response.
std::string FormatWhole(ResponseHead head, const v1::GenerateResponse& response);

// The bodies of GET /v1/models and /v1/models/{id}.
std::string FormatModels(const std::vector<v1::Model>& models, int64_t created);
std::string FormatModel(const v1::Model& model, int64_t created);

}  // namespace berth::http
