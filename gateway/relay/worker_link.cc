#include "gateway/relay/worker_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "gateway/routing/cluster_view.h"

namespace berth::relay {
namespace {

// A worker lets 250 ms of steps or 1 MiB go unacknowledged: both are met well in time, without a write per step.
constexpr absl::Duration kAcknowledgeEvery = absl::Milliseconds(50);
constexpr size_t kAcknowledgeBytes = 128 << 10;
// A timer that fires this late says that the gateway itself stood still, not the worker.
constexpr absl::Duration kLateTimer = absl::Milliseconds(500);

}  // namespace

WorkerLink::WorkerLink(const Context& context, int worker, const routing::WorkerAddress& address)
    : context_(context), worker_(worker), address_(address), epoch_(absl::ToUnixMicros(context.clock.Now())) {}

WorkerLink::~WorkerLink() { Close(); }

void WorkerLink::Open() {
  BERTH_CHECK(state_ == State::kClosed) << "the link to " << address_.id << " is open";
  Connect(State::kConnecting);
}

void WorkerLink::Close() {
  state_ = State::kClosed;
  StopTimer();
  StopAcknowledging();
  transport_.reset();
}

void WorkerLink::Submit(v1::Submit submit) {
  BERTH_CHECK(attached()) << "submit on a link that is down";
  writer_->Submit(std::move(submit));
  Flush();
}

bool WorkerLink::Cancel(v1::LinkCancel cancel) {
  if (!attached()) return false;
  const bool told = writer_->Cancel(std::move(cancel));
  Flush();
  return told;
}

void WorkerLink::Reattach(v1::Reattach reattach) {
  BERTH_CHECK(attached()) << "reattach on a link that is down";
  writer_->Reattach(std::move(reattach));
  Flush();
}

void WorkerLink::Flush() {
  if (!writable_ || transport_ == nullptr) return;
  std::optional<v1::AttachRequest> frame;
  if (!hello_sent_) {
    hello_sent_ = true;
    frame.emplace();
    v1::GatewayHello& hello = *frame->mutable_hello();
    hello.set_gateway_id(context_.gateway_id);
    hello.set_epoch(epoch_);
    if (state_ == State::kReattaching) *hello.mutable_expected_incarnation() = *incarnation_;
  } else {
    const absl::Duration now = context_.clock.Monotonic();
    const bool acknowledge = unacknowledged_bytes_ >= kAcknowledgeBytes || now - last_acknowledged_ >= kAcknowledgeEvery;
    frame = writer_->Next(acknowledge);
    if (!frame.has_value()) return AcknowledgeSoon(now);
    unacknowledged_bytes_ = 0;
    last_acknowledged_ = now;
  }
  writable_ = false;
  transport_->Write(*frame);
}

void WorkerLink::AcknowledgeSoon(absl::Duration now) {
  if (unacknowledged_bytes_ == 0 || acknowledge_timer_.has_value()) return;
  acknowledge_timer_ = context_.timers.After(last_acknowledged_ + kAcknowledgeEvery - now, [this] {
    acknowledge_timer_.reset();
    Flush();
  });
}

void WorkerLink::StopAcknowledging() {
  if (acknowledge_timer_.has_value()) context_.timers.Cancel(*acknowledge_timer_);
  acknowledge_timer_.reset();
}

void WorkerLink::Connect(State state) {
  state_ = state;
  ++epoch_;
  last_frame_ = 0;
  writable_ = false;
  hello_sent_ = false;
  unacknowledged_bytes_ = 0;
  StopAcknowledging();
  writer_ = std::make_unique<LinkWriter>();
  SetTimer(state == State::kReattaching ? kReattachWindow : kHelloTimeout, &WorkerLink::OnHelloTimeout);
  transport_ = context_.factory(address_, *this);
}

void WorkerLink::OnFrame(v1::AttachResponse& frame) {
  last_heard_ = context_.clock.Monotonic();
  forgiven_ = false;
  if (state_ != State::kAttached) {
    if (!frame.has_hello() || frame.hello().epoch() != epoch_) {
      return HandleBreak(
          absl::InternalError(absl::StrCat("worker ", address_.id, " did not begin its link with a hello of epoch ", epoch_)));
    }
    HandleHello(frame.hello());
    if (state_ != State::kAttached) return;
  } else if (frame.epoch() != epoch_) {
    return;
  } else if (frame.frame() != last_frame_ + 1) {
    return HandleBreak(
        absl::InternalError(absl::StrCat("worker ", address_.id, " sent frame ", frame.frame(), " after frame ", last_frame_)));
  }
  last_frame_ = frame.frame();
  unacknowledged_bytes_ += frame.ByteSizeLong();
  writer_->Acknowledge(last_frame_);
  context_.owner.OnFrame(worker_, frame);
  Flush();
}

void WorkerLink::HandleHello(const v1::WorkerHello& hello) {
  const bool same = state_ == State::kReattaching && routing::IsSame(hello.incarnation(), *incarnation_);
  if (state_ == State::kReattaching && !same) {
    context_.owner.OnLost(worker_, Loss::kDied, absl::UnavailableError(absl::StrCat("worker ", address_.id, " was restarted")));
    if (state_ != State::kReattaching) return;
  }
  state_ = State::kAttached;
  incarnation_ = hello.incarnation();
  last_acknowledged_ = last_heard_;
  SetTimer(routing::kFailureAge, &WorkerLink::OnSilenceTimer);
  if (const absl::Status status = context_.owner.OnHello(worker_, hello, same); !status.ok()) {
    return GiveUp(Loss::kDied, status);
  }
  backoff_ = kFirstBackoff;
}

void WorkerLink::OnWritable() {
  writable_ = true;
  Flush();
}

void WorkerLink::OnClosed(const absl::Status& status) { HandleBreak(status); }

void WorkerLink::HandleBreak(const absl::Status& status) {
  transport_.reset();
  if (state_ != State::kAttached) return GiveUp(Loss::kDied, status);
  context_.owner.OnBroken(worker_);
  if (state_ == State::kAttached) Connect(State::kReattaching);
}

void WorkerLink::GiveUp(Loss loss, const absl::Status& status) {
  transport_.reset();
  state_ = State::kBackoff;
  SetTimer(backoff_ * absl::Uniform(jitter_, 0.75, 1.25), &WorkerLink::OnBackoffOver);
  backoff_ = std::min(backoff_ * 2, kMaxBackoff);
  context_.owner.OnLost(worker_, loss, status);
}

void WorkerLink::SetTimer(absl::Duration delay, void (WorkerLink::*member)()) {
  StopTimer();
  timer_due_ = context_.clock.Monotonic() + delay;
  timer_ = context_.timers.After(delay, [this, member] {
    timer_.reset();
    (this->*member)();
  });
}

void WorkerLink::StopTimer() {
  if (timer_.has_value()) context_.timers.Cancel(*timer_);
  timer_.reset();
}

void WorkerLink::OnHelloTimeout() {
  GiveUp(Loss::kDied,
         absl::UnavailableError(absl::StrCat("worker ", address_.id, " at ", address_.address, " did not answer")));
}

void WorkerLink::OnSilenceTimer() {
  const absl::Duration now = context_.clock.Monotonic();
  // Once: else a gateway that is always late would never lose a worker.
  if (now - timer_due_ > kLateTimer && !std::exchange(forgiven_, true))
    return SetTimer(routing::kFailureAge, &WorkerLink::OnSilenceTimer);
  const absl::Duration left = last_heard_ + routing::kFailureAge - now;
  if (left > absl::ZeroDuration()) return SetTimer(left, &WorkerLink::OnSilenceTimer);
  GiveUp(Loss::kOutOfReach, absl::UnavailableError(absl::StrCat("worker ", address_.id, " was silent for ",
                                                                absl::FormatDuration(now - last_heard_))));
}

void WorkerLink::OnBackoffOver() { Connect(State::kConnecting); }

}  // namespace berth::relay
