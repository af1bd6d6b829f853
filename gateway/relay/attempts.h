#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gateway/routing/cluster_view.h"

namespace berth::relay {

struct Attempt {
  int worker = -1;
  // 0: the caller has gone, and the worker is still to say that it has ended the request.
  uint64_t stream = 0;
  // It may kill its worker, and has not finished its first step there.
  bool suspect = false;
};

// What was submitted to workers and has not ended there, by the link's stream id. Keeps the view's count of streams and its
// mark of suspects. Thread: one owner.
class Attempts {
 public:
  explicit Attempts(routing::ClusterView& view) : view_(view) {}

  // Its id, never 0.
  uint64_t Begin(const Attempt& attempt);
  // Null when it is over.
  const Attempt* Find(uint64_t id) const;
  // Its first step is over.
  void EndSuspicion(uint64_t id);
  // Its stream will hear nothing more of it; the worker has not ended it yet.
  void Leave(uint64_t id) { attempts_.at(id).stream = 0; }
  // The worker that it ran at. The attempt is there.
  int End(uint64_t id);
  // Those at a worker that their streams have left.
  std::vector<uint64_t> LeftAt(int worker) const;
  int size() const { return static_cast<int>(attempts_.size()); }

 private:
  routing::ClusterView& view_;
  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, Attempt> attempts_;
};

}  // namespace berth::relay
