#include "gateway/http/generation.h"

#include <algorithm>
#include <utility>

namespace berth::http {

Generation::Generation(const Context& context, const char* method, const Options& options, Deliver deliver)
    : context_(context), method_(method), options_(options), deliver_(std::move(deliver)) {}

void Generation::Start(relay::GenerationRequest request, std::vector<v1::Prompt> more_prompts) {
  context_.shard.Post(
      [self = shared_from_this(), this, request = std::move(request), more_prompts = std::move(more_prompts)]() mutable {
        started_at_ = context_.clock.Monotonic();
        model_ = context_.relay.view().ModelLabel(request.spec.model());
        choice_count_ = std::max(request.spec.sampling().choice_count(), 1);
        self_ = self;
        parts_.resize(1 + more_prompts.size());
        for (size_t i = 0; i < parts_.size() && !ended_; ++i) {
          relay::GenerationRequest part = request;
          part.further = i > 0;
          if (part.further) *part.spec.mutable_prompt() = std::move(more_prompts[i - 1]);
          parts_[i].id = context_.relay.Open(std::move(part), *this);
        }
        if (request.limits != nullptr) levels_ = context_.relay.RateLevels(*request.limits);
        OnReadable();
      });
}

void Generation::Taken() {
  context_.shard.Post([self = shared_from_this(), this] {
    taken_ = true;
    OnReadable();
  });
}

void Generation::Abandon() {
  context_.shard.Post([self = shared_from_this(), this] {
    deliver_ = nullptr;
    AbandonParts();
    Ended(absl::StatusCode::kCancelled);
  });
}

void Generation::OnReadable() {
  const std::shared_ptr<Generation> self = shared_from_this();
  if (ended_ || !taken_) return;
  Batch batch;
  for (size_t i = 0; i < parts_.size() && !ended_; ++i) ReadPart(i, batch);
  if (!batch.messages.empty() || batch.end.has_value()) DeliverBatch(std::move(batch));
}

// All that a part has; the end of the last one, or an error, ends the whole.
void Generation::ReadPart(size_t index, Batch& batch) {
  Part& part = parts_[index];
  while (part.id != 0 && !part.ended) {
    std::optional<relay::Outbox::Item> item = context_.relay.Read(part.id);
    if (!item.has_value()) return;
    if (item->message.has_value()) {
      Number(index, *item->message);
      if (options_.single_tool_call && item->message->delta().tool_call().index() > 0) {
        item->message->mutable_delta()->clear_tool_call();
      }
      if (options_.stream) {
        batch.messages.push_back(std::move(*item->message));
      } else {
        collector_.Add(*item->message);
      }
      continue;
    }
    part.ended = true;
    const bool all = std::all_of(parts_.begin(), parts_.end(), [](const Part& other) { return other.ended; });
    if (item->end->ok() && !all) return;
    AbandonParts();
    Ended(item->end->code());
    if (item->end->ok() && !options_.stream) batch.whole = std::move(collector_.response());
    batch.end = std::move(item->end);
  }
}

// From a part's own numbers to the whole's.
void Generation::Number(size_t part, v1::StreamGenerateResponse& message) {
  const int first = static_cast<int>(part) * choice_count_;
  if (!message.request_id().empty() && std::exchange(named_, true)) message.clear_request_id();
  if (message.has_delta()) message.mutable_delta()->set_choice_index(first + message.delta().choice_index());
  if (!message.has_finished()) return;
  v1::Finished& finished = *message.mutable_finished();
  for (v1::ChoiceFinished& choice : *finished.mutable_choices()) choice.set_choice_index(first + choice.choice_index());
  usage_.set_prompt_tokens(usage_.prompt_tokens() + finished.usage().prompt_tokens());
  usage_.set_cached_tokens(usage_.cached_tokens() + finished.usage().cached_tokens());
  usage_.set_completion_tokens(usage_.completion_tokens() + finished.usage().completion_tokens());
  *finished.mutable_usage() = usage_;
}

void Generation::OnGivenUp(const absl::Status& status) {
  const std::shared_ptr<Generation> self = shared_from_this();
  AbandonParts();
  Ended(status.code());
  DeliverBatch({.end = status, .given_up = true});
}

void Generation::AbandonParts() {
  for (Part& part : parts_) {
    if (part.id != 0 && !std::exchange(part.ended, true)) context_.relay.Abandon(part.id);
  }
}

void Generation::DeliverBatch(Batch batch) {
  taken_ = false;
  batch.levels = std::exchange(levels_, {});
  if (deliver_) deliver_(std::move(batch));
}

void Generation::Ended(absl::StatusCode code) {
  if (std::exchange(ended_, true)) return;
  context_.metrics.RequestEnded(method_, model_, relay::CodeName(code), context_.clock.Monotonic() - started_at_);
  self_.reset();
}

}  // namespace berth::http
