#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"

namespace berth::rpc {

// gRPC sends every message by a system call of its own, and one frame of a worker has tokens for many streams of a caller's
// connection. From the second message on, what a turn of a shard writes to a socket without writing to another is held back
// (TCP_CORK). It leaves when another socket's turn has come, at the turn's end, or with kMostHeld messages so that the first
// do not wait for long.
//
// Sockets are gRPC's, so their numbers may be stale: to hold back and let go another connection in one turn changes nothing.
class Gather {
 public:
  static constexpr int kMostHeld = 32;

  // A connection was accepted; its caller as grpc::ServerContext::peer() says it. Any thread.
  void Opened(const std::string& peer, int socket);
  // Of an open connection; -1 for one that was not accepted here. Any thread.
  int SocketOf(const std::string& peer) const;

  // The rest is the shard's. Before a write to `socket`, which may be -1.
  void BeforeWrite(int socket);
  void EndTurn();

 private:
  void LetGo();

  mutable base::Mutex mutex_;
  absl::flat_hash_map<std::string, int> sockets_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<int, std::string> peers_ ABSL_GUARDED_BY(mutex_);  // the last of each number, so no more than descriptors

  int socket_ = -1;  // the last that this turn has written to
  int held_ = 0;     // messages held back on it
};

}  // namespace berth::rpc
