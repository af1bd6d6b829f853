#include "worker/service/request.h"

#include "proto/rpc/status.h"

namespace berth::service {

bool Request::has_events() const {
  if (claiming) return false;
  if (ended() || (started_ready && (!started_sent || prompt_scores.has_unsent()))) return true;
  if (prompt_scores.missing()) return false;
  for (const Choice& choice : choices) {
    if (choice.output->has_unsent(false)) return true;
  }
  return false;
}

bool Request::TakeEvents(int64_t* budget, google::protobuf::RepeatedPtrField<v1::StreamEvent>* events) {
  const auto add = [&] {
    v1::StreamEvent* event = events->Add();
    event->set_stream_id(stream_id);
    return event;
  };
  if (started_ready && !started_sent) {
    started_sent = true;
    *add()->mutable_started() = started;
    *budget -= static_cast<int64_t>(started.ByteSizeLong()) + 16;
  }
  while (started_ready && prompt_scores.has_unsent()) {
    if (*budget <= 0) return false;
    prompt_scores.TakeDelta(budget, add()->mutable_delta());
  }
  for (size_t i = 0; i < choices.size() && (ended() || !prompt_scores.missing()); ++i) {
    while (choices[i].output->has_unsent(ended() && error.ok())) {
      if (*budget <= 0) return false;
      v1::Delta* delta = add()->mutable_delta();
      delta->set_choice_index(static_cast<int32_t>(i));
      choices[i].output->TakeDelta(budget, delta);
    }
  }
  if (!ended()) return false;
  // Without regard to the budget: a tail of text and the end of its stream travel in one frame.
  if (error.ok()) {
    *add()->mutable_finished() = finished;
  } else {
    *add()->mutable_error() = rpc::ToProto(error);
  }
  *budget -= 64;
  return true;
}

void Request::SetSent(const std::vector<int>& tokens, int prompt_logprobs) {
  bool any = prompt_logprobs > 0;
  prompt_scores.SetSent(prompt_logprobs);
  for (size_t i = 0; i < choices.size(); ++i) {
    const int sent = i < tokens.size() ? tokens[i] : 0;
    choices[i].output->SetSent(sent);
    any = any || sent > 0;
  }
  started_sent = any;
}

}  // namespace berth::service
