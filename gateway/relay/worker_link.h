#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "gateway/relay/link_transport.h"
#include "gateway/relay/link_writer.h"
#include "gateway/relay/timers.h"
#include "gateway/routing/worker_list.h"
#include "proto/berth/v1/worker.pb.h"

namespace berth::relay {

// Time from a broken link to the hello of the next, within which its streams are taken up again.
inline constexpr absl::Duration kReattachWindow = absl::Milliseconds(300);
inline constexpr absl::Duration kHelloTimeout = absl::Seconds(5);
inline constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
inline constexpr absl::Duration kMaxBackoff = absl::Milliseconds(750);

// This gateway's link to one worker, over all its connections: opens it, checks hello, epoch and frame numbers, acknowledges,
// watches for silence, and opens it again. Thread: the shard that owns the link.
class WorkerLink : private LinkTransport::Observer {
 public:
  // How a worker was lost. One that is out of reach may live on: nobody's request has killed it.
  enum class Loss { kDied, kOutOfReach };

  class Owner {
   public:
    virtual ~Owner() = default;
    // An error refuses the worker; the link is tried again later. `same` is true when it is the incarnation that was attached
    // before, within the reattach window: then its streams can be taken up again.
    virtual absl::Status OnHello(int worker, const v1::WorkerHello& hello, bool same) = 0;
    virtual void OnFrame(int worker, v1::AttachResponse& frame) = 0;
    // The link broke a moment ago and is tried once more; OnHello or OnLost follows.
    virtual void OnBroken(int worker) = 0;
    // The link is over for good, with all its streams; `status` says why. Also after attempts that never came to a hello.
    virtual void OnLost(int worker, Loss loss, const absl::Status& status) = 0;
  };

  struct Context {
    std::string gateway_id;
    const base::Clock& clock;
    Timers& timers;
    const LinkFactory& factory;
    Owner& owner;
  };

  WorkerLink(const Context& context, int worker, const routing::WorkerAddress& address);
  ~WorkerLink() override;

  void Open();
  // Nothing more is sent or reported.
  void Close();

  bool attached() const { return state_ == State::kAttached; }
  // Only while attached.
  void Submit(v1::Submit submit);
  // False when the worker will say nothing of the stream: the link is down, or as LinkWriter::Cancel.
  bool Cancel(v1::LinkCancel cancel);
  void Reattach(v1::Reattach reattach);
  // Sends what the calls above have gathered; they do so by themselves at the next opportunity.
  void Flush();

 private:
  enum class State { kClosed, kConnecting, kAttached, kReattaching, kBackoff };

  void Connect(State state);
  void HandleHello(const v1::WorkerHello& hello);
  void HandleBreak(const absl::Status& status);
  void GiveUp(Loss loss, const absl::Status& status);
  void SetTimer(absl::Duration delay, void (WorkerLink::*member)());
  void StopTimer();
  // Also when nothing more comes: a worker that waits for credit says nothing, and would be taken for silent.
  void AcknowledgeSoon(absl::Duration now);
  void StopAcknowledging();
  void OnHelloTimeout();
  void OnSilenceTimer();
  void OnBackoffOver();

  void OnFrame(v1::AttachResponse& frame) override;
  void OnWritable() override;
  void OnClosed(const absl::Status& status) override;

  const Context context_;
  const int worker_;
  const routing::WorkerAddress address_;

  State state_ = State::kClosed;
  std::unique_ptr<LinkTransport> transport_;
  std::unique_ptr<LinkWriter> writer_;
  bool writable_ = false;
  bool hello_sent_ = false;
  // Begins at the time of day, so that a gateway which starts again under its old id is the newer one.
  uint64_t epoch_;
  uint64_t last_frame_ = 0;
  std::optional<v1::Incarnation> incarnation_;
  absl::Duration last_heard_;
  absl::Duration timer_due_;
  // A timer was late, and nothing was heard since.
  bool forgiven_ = false;
  absl::Duration backoff_ = kFirstBackoff;
  std::optional<Timers::Id> timer_;
  // Acknowledgements are sent when this much is unacknowledged.
  size_t unacknowledged_bytes_ = 0;
  absl::Duration last_acknowledged_;
  std::optional<Timers::Id> acknowledge_timer_;
  absl::BitGen jitter_;
};

}  // namespace berth::relay
