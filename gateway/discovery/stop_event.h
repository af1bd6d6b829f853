#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

namespace berth::discovery {

// A descriptor that becomes readable once a thread that polls it is to end.
class StopEvent {
 public:
  StopEvent() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~StopEvent() { close(fd_); }
  StopEvent(const StopEvent&) = delete;
  StopEvent& operator=(const StopEvent&) = delete;

  void Set() { eventfd_write(fd_, 1); }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace berth::discovery
