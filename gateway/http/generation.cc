#include "gateway/http/generation.h"

#include <utility>

namespace berth::http {

Generation::Generation(const Context& context, const char* method, bool stream, Deliver deliver)
    : context_(context), method_(method), stream_(stream), deliver_(std::move(deliver)) {}

void Generation::Start(relay::GenerationRequest request) {
  context_.shard.Post([self = shared_from_this(), this, request = std::move(request)]() mutable {
    started_at_ = context_.clock.Monotonic();
    model_ = context_.relay.view().ModelLabel(request.spec.model());
    self_ = self;
    id_ = context_.relay.Open(std::move(request), *this);
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
    context_.relay.Abandon(id_);
    Ended(absl::StatusCode::kCancelled);
  });
}

void Generation::OnReadable() {
  const std::shared_ptr<Generation> self = shared_from_this();
  if (ended_ || !taken_) return;
  Batch batch;
  while (!ended_) {
    std::optional<relay::Outbox::Item> item = context_.relay.Read(id_);
    if (!item.has_value()) break;
    if (item->end.has_value()) {
      Ended(item->end->code());
      if (item->end->ok() && !stream_) batch.whole = std::move(collector_.response());
      batch.end = std::move(item->end);
    } else if (stream_) {
      batch.messages.push_back(std::move(*item->message));
    } else {
      collector_.Add(*item->message);
    }
  }
  if (!batch.messages.empty() || batch.end.has_value()) DeliverBatch(std::move(batch));
}

void Generation::OnGivenUp(const absl::Status& status) {
  const std::shared_ptr<Generation> self = shared_from_this();
  Ended(status.code());
  DeliverBatch({.end = status, .given_up = true});
}

void Generation::DeliverBatch(Batch batch) {
  taken_ = false;
  if (deliver_) deliver_(std::move(batch));
}

void Generation::Ended(absl::StatusCode code) {
  if (std::exchange(ended_, true)) return;
  context_.metrics.RequestEnded(method_, model_, relay::CodeName(code), context_.clock.Monotonic() - started_at_);
  self_.reset();
}

}  // namespace berth::http
