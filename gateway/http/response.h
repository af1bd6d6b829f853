#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "gateway/http/answer_format.h"
#include "gateway/http/text_logprobs.h"
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
  // Of each prompt: what its choices' texts begin with; empty: nothing.
  std::vector<std::string> echoes;
  int64_t created = 0;
  // Set from the stream's first message.
  std::string request_id;
  std::string model;
};

// Chat and text completions, as OpenAI's clients read them. `started` opens every choice of a chat with its role.
class EventFormatter : public AnswerFormat {
 public:
  explicit EventFormatter(ResponseHead head);

  std::string Format(const v1::StreamGenerateResponse& message) override;
  // Ends with [DONE].
  std::string End(const absl::Status& status) override;
  std::string Whole(const v1::GenerateResponse& response) override;

 private:
  std::string FormatStarted(const v1::Started& started);
  std::string FormatDelta(const v1::Delta& delta);
  std::string FormatPrompt(const v1::Delta& delta);
  std::string FormatFinished(const v1::Finished& finished);
  // What the choice's text begins with.
  const std::string& EchoOf(int choice) const;
  // The same; nothing the second time.
  std::string TakeEcho(int choice);

  ResponseHead head_;
  // By choice, as they come: nobody has checked yet how many the caller asks for.
  absl::flat_hash_map<int, TextPlace> places_;
  // By the first choice of each prompt.
  absl::flat_hash_map<int, TextPlace> prompt_places_;
  absl::flat_hash_set<int> echoed_;
  int finished_prompts_ = 0;
};

// "stop", "length", "tool_calls" or "abort".
std::string FinishName(v1::FinishReason reason);

// The bodies of GET /v1/models and /v1/models/{id}.
std::string FormatModels(const std::vector<v1::Model>& models, int64_t created);
std::string FormatModel(const v1::Model& model, int64_t created);

}  // namespace berth::http
