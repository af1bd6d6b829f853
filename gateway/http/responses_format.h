#pragma once

#include <cstdint>
#include <memory>

#include "gateway/http/answer_format.h"
#include "nlohmann/json.hpp"

namespace berth::http {

// Answers of /v1/responses: a response of reasoning, message and function_call items. What `request` set is repeated in it.
std::unique_ptr<AnswerFormat> MakeResponsesFormat(const nlohmann::ordered_json& request, int64_t created);

}  // namespace berth::http
