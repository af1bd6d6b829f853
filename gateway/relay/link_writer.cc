#include "gateway/relay/link_writer.h"

#include <algorithm>
#include <utility>

namespace berth::relay {

void LinkWriter::Submit(v1::Submit submit) {
  if (submit.ByteSizeLong() > kMaxInlineSubmit) {
    submit.set_prompt_follows(true);
    prompts_.push_back({.stream_id = submit.stream_id(), .data = submit.generation().prompt().SerializeAsString()});
    submit.mutable_generation()->clear_prompt();
  }
  submits_.push_back(std::move(submit));
}

bool LinkWriter::Cancel(v1::LinkCancel cancel) {
  if (cancel.stream_id() != 0) {
    const auto is_same = [&](const auto& entry) { return entry.stream_id == cancel.stream_id(); };
    prompts_.erase(std::remove_if(prompts_.begin(), prompts_.end(), is_same), prompts_.end());
    const auto submit = std::find_if(submits_.begin(), submits_.end(),
                                     [&](const v1::Submit& entry) { return entry.stream_id() == cancel.stream_id(); });
    if (submit != submits_.end()) {
      submits_.erase(submit);
      return false;
    }
    const auto reattach = std::find_if(reattaches_.begin(), reattaches_.end(),
                                       [&](const v1::Reattach& entry) { return entry.stream_id() == cancel.stream_id(); });
    if (reattach != reattaches_.end()) {
      reattaches_.erase(reattach);
      cancel.clear_stream_id();
      cancels_.push_back(std::move(cancel));
      return false;
    }
  }
  cancels_.push_back(std::move(cancel));
  return true;
}

void LinkWriter::Reattach(v1::Reattach reattach) { reattaches_.push_back(std::move(reattach)); }

std::optional<v1::AttachRequest> LinkWriter::Next(bool acknowledge) {
  const bool has_news = acknowledge && acknowledged_ != acknowledgement_sent_;
  if (cancels_.empty() && reattaches_.empty() && submits_.empty() && prompts_.empty() && !has_news) return std::nullopt;
  v1::AttachRequest frame;
  for (v1::LinkCancel& cancel : cancels_) *frame.add_cancels() = std::move(cancel);
  for (v1::Reattach& reattach : reattaches_) *frame.add_reattaches() = std::move(reattach);
  cancels_.clear();
  reattaches_.clear();
  AddSubmits(frame);
  if (submits_.empty()) AddChunk(frame);
  frame.set_acknowledged_frame(acknowledged_);
  acknowledgement_sent_ = acknowledged_;
  return frame;
}

void LinkWriter::AddSubmits(v1::AttachRequest& frame) {
  size_t bytes = 0;
  while (!submits_.empty() && bytes < kFrameTarget) {
    bytes += submits_.front().ByteSizeLong();
    *frame.add_submits() = std::move(submits_.front());
    submits_.pop_front();
  }
}

void LinkWriter::AddChunk(v1::AttachRequest& frame) {
  if (prompts_.empty()) return;
  LargePrompt& prompt = prompts_.front();
  v1::PromptChunk& chunk = *frame.add_prompt_chunks();
  chunk.set_stream_id(prompt.stream_id);
  chunk.set_data(prompt.data.substr(prompt.sent, kMaxPromptChunk));
  prompt.sent += chunk.data().size();
  chunk.set_last(prompt.sent == prompt.data.size());
  if (chunk.last()) prompts_.pop_front();
}

}  // namespace berth::relay
