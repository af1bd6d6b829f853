#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gateway/http/answer_format.h"
#include "nlohmann/json.hpp"

namespace berth::http {

// Answers of /v1/chat/interactive; a stream is a JSON object a line.
std::unique_ptr<AnswerFormat> MakeInteractiveFormat();
// `reason`: "" while the answer goes on.
nlohmann::ordered_json InteractiveAnswer(const std::string& text, int64_t tokens, int64_t input_tokens, int64_t history_tokens,
                                         const std::string& reason);

// Answers of /generate; a stream's events hold what is new.
std::unique_ptr<AnswerFormat> MakeGenerateFormat(bool logprobs);

}  // namespace berth::http
