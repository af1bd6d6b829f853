#include "proto/rpc/gather.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

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
  if (socket < 0) return;
  if (socket != socket_) {
    EndTurn();
    socket_ = socket;
    return;
  }
  if (held_ == kMostHeld) LetGo();
  if (held_++ == 0) SetCork(socket, 1);
}

void Gather::LetGo() {
  if (std::exchange(held_, 0) > 0) SetCork(socket_, 0);
}

void Gather::EndTurn() {
  LetGo();
  socket_ = -1;
}

}  // namespace berth::rpc
