#include "gateway/relay/outbox.h"

#include <utility>

namespace berth::relay {
namespace {

bool CanJoin(const v1::Delta& delta, const v1::Delta& next) {
  if (delta.choice_index() != next.choice_index()) return false;
  if (delta.prompt_logprobs_size() + next.prompt_logprobs_size() > 0) return false;
  if (delta.content_case() == v1::Delta::CONTENT_NOT_SET || next.content_case() == v1::Delta::CONTENT_NOT_SET) return true;
  if (delta.content_case() != next.content_case()) return false;
  return !delta.has_tool_call() || delta.tool_call().index() == next.tool_call().index();
}

}  // namespace

bool MergeDelta(v1::Delta& delta, const v1::Delta& next) {
  if (!CanJoin(delta, next)) return false;
  delta.mutable_token_ids()->MergeFrom(next.token_ids());
  delta.mutable_logprobs()->MergeFrom(next.logprobs());
  switch (next.content_case()) {
    case v1::Delta::kText:
      delta.mutable_text()->append(next.text());
      break;
    case v1::Delta::kReasoning:
      delta.mutable_reasoning()->append(next.reasoning());
      break;
    case v1::Delta::kToolCall: {
      const bool fresh = !delta.has_tool_call();
      v1::ToolCallDelta& call = *delta.mutable_tool_call();
      if (fresh) {
        call = next.tool_call();
      } else {
        call.mutable_arguments_delta()->append(next.tool_call().arguments_delta());
      }
      break;
    }
    case v1::Delta::CONTENT_NOT_SET:
      break;
  }
  return true;
}

void Outbox::Push(v1::StreamGenerateResponse message) {
  if (message.has_delta()) {
    v1::Delta& delta = *message.mutable_delta();
    // The choices of a request interleave; the order between them means nothing.
    for (auto it = pending_.rbegin(); it != pending_.rend() && it->message.has_delta(); ++it) {
      if (it->message.delta().choice_index() != delta.choice_index()) continue;
      if (!MergeDelta(*it->message.mutable_delta(), delta)) break;
      // These are there already.
      delta.clear_choice_index();
      delta.clear_first_token_index();
      const size_t growth = delta.ByteSizeLong();
      it->bytes += growth;
      pending_bytes_ += growth;
      return;
    }
  }
  const size_t bytes = message.delta().prompt_logprobs().empty() ? message.ByteSizeLong() : 0;
  pending_bytes_ += bytes;
  pending_.push_back({.message = std::move(message), .bytes = bytes});
}

std::optional<Outbox::Item> Outbox::Take() {
  if (!pending_.empty()) {
    Item item{.message = std::move(pending_.front().message)};
    pending_bytes_ -= pending_.front().bytes;
    pending_.pop_front();
    item.message->set_seq(next_seq_++);
    item.more = has_pending();
    return item;
  }
  if (!end_.has_value()) return std::nullopt;
  Item item{.end = std::move(end_)};
  end_.reset();
  return item;
}

}  // namespace berth::relay
