#pragma once

#include <string>
#include <vector>

#include "gateway/routing/cluster_view.h"

namespace berth::routing {

inline constexpr absl::Duration kNow = absl::Seconds(100);

inline ClusterView MakeView(int workers) {
  std::vector<WorkerAddress> addresses;
  for (int i = 0; i < workers; ++i) addresses.push_back({"w" + std::to_string(i), "host:" + std::to_string(1000 + i)});
  return ClusterView(addresses);
}

inline v1::WorkerHello Hello(const std::string& id, int64_t start = 1) {
  v1::WorkerHello hello;
  hello.set_worker_id(id);
  hello.mutable_incarnation()->set_start_time_micros(start);
  v1::Model& model = *hello.add_models();
  model.set_name("m");
  model.set_fingerprint(7);
  return hello;
}

inline v1::LoadReport Load(int running = 0, int waiting = 0) {
  v1::LoadReport load;
  load.set_state(v1::WORKER_STATE_READY);
  load.set_slots(16);
  load.set_running(running);
  load.set_waiting(waiting);
  load.set_submit_credit(32);
  return load;
}

// All workers attached, ready and idle.
inline ClusterView ReadyView(int workers) {
  ClusterView view = MakeView(workers);
  for (int i = 0; i < workers; ++i) {
    if (!view.Attached(i, Hello(view.worker(i).address.id), kNow).ok()) std::abort();
    view.Reported(i, Load(), kNow);
  }
  return view;
}

}  // namespace berth::routing
