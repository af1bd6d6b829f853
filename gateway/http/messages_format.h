#pragma once

#include <memory>

#include "gateway/http/answer_format.h"

namespace berth::http {

// Answers as Anthropic's clients read them: a message of thinking, text and tool_use blocks.
std::unique_ptr<AnswerFormat> MakeMessagesFormat();

}  // namespace berth::http
