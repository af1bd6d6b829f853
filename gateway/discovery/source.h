#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/routing/worker_list.h"

namespace berth::discovery {

// The workers as a source names them now, or why it could not be read: the last list stays then. Runs on the source's thread.
using OnWorkers = std::function<void(absl::StatusOr<std::vector<routing::WorkerAddress>>)>;

// A source that changes, with a thread of its own, which its destructor ends.
class Source {
 public:
  virtual ~Source() = default;
};

}  // namespace berth::discovery
