#include "proto/rpc/gather.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace berth::rpc {
namespace {

void SetCork(int socket, int on) { setsockopt(socket, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)); }

}  // namespace

void Gather::Opened(const std::string& peer, int socket) {
  base::MutexLock lock(mutex_);
  std::string& last = peers_[socket];
  if (const auto it = sockets_.find(last); it != sockets_.end() && it->second == socket) sockets_.erase(it);
  last = peer;
  sockets_[peer] = socket;
}

int Gather::SocketOf(const std::string& peer) const {
  base::MutexLock lock(mutex_);
  const auto it = sockets_.find(peer);
  return it == sockets_.end() ? -1 : it->second;
}

void Gather::BeforeWrite(int socket) {
  if (socket < 0 || written_.insert(socket).second) return;
  int& held = held_[socket];
  if (held == kMostHeld) {
    SetCork(socket, 0);
    held = 0;
  }
  if (held++ == 0) SetCork(socket, 1);
}

void Gather::EndTurn() {
  for (const auto& [socket, held] : held_) SetCork(socket, 0);
  held_.clear();
  written_.clear();
}

}  // namespace berth::rpc
