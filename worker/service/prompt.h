#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/berth/v1/generation.pb.h"
#include "worker/service/served_model.h"
#include "worker/session/session.h"

namespace berth::service {

// A request's prompt as tokens.
struct PreparedPrompt {
  std::vector<int32_t> tokens;
  std::vector<std::vector<int32_t>> bad_words;  // of StopCriteria, tokenized
  // The output continues the prompt's text instead of starting a message.
  bool continues_text = false;

  int32_t end_token = -1;  // of infilling: ends the output like an end-of-sequence

  // Of chats: what the output is to be read by. `opening` is the begin of the answer that the prompt ends with.
  std::vector<std::string> tool_names;
  bool opens_reasoning = false;
  std::string opening;

  std::shared_ptr<const text::CompiledGrammar> grammar;  // that the output must match; null: none

  // Of interactive turns: the prompt is history[0, from_position) + tokens[from_position, …), and the whole conversation.
  int64_t from_position = 0;
  std::vector<session::Message> messages;
};

// The answer must be a call of a tool.
inline bool MustCall(const v1::ChatPrompt& chat) { return chat.call_required() || !chat.forced_tool().empty(); }

// Renders and encodes. `history` (null: no session) is put before an interactive turn: chat prompts render the whole
// conversation anew, so that the tokens equal those of the conversation sent at once; text and token ids append verbatim.
// Thread: any.
absl::StatusOr<PreparedPrompt> PreparePrompt(const v1::GenerationSpec& spec, const session::History* history,
                                             const ServedModel& model);

// The tokens of a prompt that belongs to no session.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::Prompt& prompt, const ServedModel& model);

}  // namespace berth::service
