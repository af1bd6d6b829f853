#include "proto/rpc/collector.h"

#include <utility>

namespace berth::rpc {

void Collector::Add(v1::StreamGenerateResponse& message) {
  if (!message.request_id().empty()) response_.set_request_id(message.request_id());
  if (message.has_started()) *response_.mutable_started() = std::move(*message.mutable_started());
  if (message.has_delta()) AddDelta(*message.mutable_delta());
  if (message.has_finished()) AddFinished(*message.mutable_finished());
}

v1::GenerateResponse::Choice& Collector::Choice(int index) {
  while (response_.choices_size() <= index) {
    const int next = response_.choices_size();
    response_.add_choices()->set_index(next);
  }
  return *response_.mutable_choices(index);
}

void Collector::AddDelta(v1::Delta& delta) {
  v1::GenerateResponse::Choice& choice = Choice(delta.choice_index());
  choice.mutable_token_ids()->MergeFrom(delta.token_ids());
  choice.mutable_logprobs()->MergeFrom(delta.logprobs());
  choice.mutable_prompt_logprobs()->MergeFrom(delta.prompt_logprobs());
  choice.mutable_text()->append(delta.text());
  choice.mutable_reasoning()->append(delta.reasoning());
  if (!delta.has_tool_call()) return;
  const v1::ToolCallDelta& call = delta.tool_call();
  while (choice.tool_calls_size() <= call.index()) choice.add_tool_calls();
  v1::ToolCall& whole = *choice.mutable_tool_calls(call.index());
  if (!call.id().empty()) whole.set_id(call.id());
  if (!call.name().empty()) whole.set_name(call.name());
  whole.mutable_arguments()->append(call.arguments_delta());
}

void Collector::AddFinished(v1::Finished& finished) {
  for (const v1::ChoiceFinished& end : finished.choices()) {
    v1::GenerateResponse::Choice& choice = Choice(end.choice_index());
    choice.set_finish_reason(end.reason());
    choice.set_matched_stop(end.matched_stop());
  }
  *response_.mutable_usage() = finished.usage();
  *response_.mutable_timing() = finished.timing();
  response_.set_session_position(finished.session_position());
}

}  // namespace berth::rpc
