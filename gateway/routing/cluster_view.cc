#include "gateway/routing/cluster_view.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "gateway/routing/rendezvous.h"

namespace berth::routing {
namespace {

// A smaller difference, of a step or a first token, is nobody's trouble.
constexpr std::array<absl::Duration, 2> kNoticeable = {absl::Milliseconds(20), absl::Milliseconds(200)};

bool ServeTheSame(const WorkerView& a, const WorkerView& b) {
  return !a.models.empty() && !b.models.empty() && a.models.front().fingerprint() == b.models.front().fingerprint();
}

}  // namespace

const v1::Model* WorkerView::FindModel(std::string_view name) const {
  if (name.empty()) return models.size() == 1 ? &models.front() : nullptr;
  const auto found = std::find_if(models.begin(), models.end(), [&](const v1::Model& model) { return model.name() == name; });
  return found == models.end() ? nullptr : &*found;
}

Circuit WorkerView::circuit(absl::Duration now) const {
  if (now < ejected_until) return Circuit::kOpen;
  return ejections > 0 ? Circuit::kHalfOpen : Circuit::kClosed;
}

ClusterView::ClusterView(std::vector<WorkerAddress> workers, double slow_factor) : slow_factor_(slow_factor) {
  for (WorkerAddress& address : workers) Add(std::move(address));
}

std::vector<int> ClusterView::Rank(uint64_t key) const {
  std::vector<uint64_t> hashes;
  std::vector<int> indices;
  for (int i = 0; i < size(); ++i) {
    if (!workers_[i].discovered) continue;
    hashes.push_back(workers_[i].hash);
    indices.push_back(i);
  }
  std::vector<int> order = RankWorkers(key, hashes);
  for (int& index : order) index = indices[index];
  return order;
}

int ClusterView::Add(WorkerAddress address) {
  const uint64_t hash = WorkerHash(address.id);
  WorkerView worker{.address = std::move(address), .hash = hash};
  for (int i = 0; i < size(); ++i) {
    if (workers_[i].discovered || workers_[i].open_streams > 0) continue;
    workers_[i] = std::move(worker);
    return i;
  }
  workers_.push_back(std::move(worker));
  return size() - 1;
}

int ClusterView::Find(std::string_view worker_id) const {
  for (int i = 0; i < size(); ++i) {
    if (workers_[i].discovered && workers_[i].address.id == worker_id) return i;
  }
  return -1;
}

bool ClusterView::Restore(const WorkerAddress& address) {
  for (WorkerView& worker : workers_) {
    if (worker.discovered || worker.link == LinkState::kDown || worker.address != address) continue;
    worker.discovered = true;
    return true;
  }
  return false;
}

absl::Status ClusterView::Attached(int index, const v1::WorkerHello& hello, absl::Duration now) {
  WorkerView& worker = workers_[index];
  if (hello.worker_id() != worker.address.id) {
    return absl::FailedPreconditionError(absl::StrCat("the worker at ", worker.address.address, " says it is \"",
                                                      hello.worker_id(), "\", discovery says \"", worker.address.id, "\""));
  }
  if (IsOlder(hello.incarnation(), worker.incarnation)) {
    return absl::FailedPreconditionError(
        absl::StrCat("worker \"", worker.address.id, "\" answered with an incarnation older than the one known"));
  }
  if (!IsSame(hello.incarnation(), worker.incarnation)) worker.paces = {};
  worker.link = LinkState::kUp;
  worker.incarnation = hello.incarnation();
  worker.models.assign(hello.models().begin(), hello.models().end());
  worker.journal_domain = hello.journal_domain();
  worker.load.Clear();
  worker.load.set_attached_gateways(hello.attached_gateways());
  worker.last_frame = now;
  return absl::OkStatus();
}

void ClusterView::Reported(int index, const v1::LoadReport& load, absl::Duration now) {
  workers_[index].load = load;
  workers_[index].last_frame = now;
}

void ClusterView::Detached(int index, LinkState state) {
  BERTH_CHECK(state != LinkState::kUp);
  workers_[index].link = state;
  workers_[index].load.Clear();
}

void ClusterView::StreamClosed(int index) {
  BERTH_CHECK(workers_[index].open_streams > 0) << "worker " << workers_[index].address.id << " has no open stream";
  --workers_[index].open_streams;
}

bool ClusterView::Faulted(int index, absl::Duration now) {
  WorkerView& worker = workers_[index];
  return ++worker.faults >= kFaultsToEject && Eject(worker, kFirstEjection, now);
}

bool ClusterView::Timed(int index, PaceKind kind, absl::Duration time, absl::Duration now) {
  WorkerView& worker = workers_[index];
  Pace& pace = worker.paces[static_cast<int>(kind)];
  if (slow_factor_ == 0 || !pace.Add(time, now)) return false;
  const std::optional<absl::Duration> peers = PeersBest(index, kind, now);
  const absl::Duration best = *pace.best(now);
  const bool slow = peers.has_value() && best > slow_factor_ * *peers && best - *peers > kNoticeable[static_cast<int>(kind)];
  if (!slow) {
    pace.slow_windows = 0;
    return false;
  }
  return ++pace.slow_windows >= kSlowWindowsToEject && Eject(worker, kFirstSlowEjection, now);
}

std::optional<absl::Duration> ClusterView::PeersBest(int index, PaceKind kind, absl::Duration now) const {
  std::vector<absl::Duration> bests;
  for (int i = 0; i < size(); ++i) {
    if (i == index || workers_[i].link != LinkState::kUp || !ServeTheSame(workers_[i], workers_[index])) continue;
    if (const auto best = workers_[i].paces[static_cast<int>(kind)].best(now)) bests.push_back(*best);
  }
  if (bests.empty()) return std::nullopt;
  const auto middle = bests.begin() + static_cast<ptrdiff_t>((bests.size() - 1) / 2);
  std::nth_element(bests.begin(), middle, bests.end());
  return *middle;
}

bool ClusterView::Eject(WorkerView& worker, absl::Duration first, absl::Duration now) {
  if (worker.circuit(now) == Circuit::kOpen) return false;
  const auto is_open = [now](const WorkerView& other) { return other.circuit(now) == Circuit::kOpen; };
  if (2 * (1 + std::count_if(workers_.begin(), workers_.end(), is_open)) > size()) return false;
  worker.ejected_until = now + std::min(first * (1 << std::min(worker.ejections, 16)), kMaxEjection);
  ++worker.ejections;
  return true;
}

bool ClusterView::Succeeded(int index) {
  WorkerView& worker = workers_[index];
  worker.faults = 0;
  // A slow worker succeeds, too: it is its pace that tells.
  return !worker.is_slow() && std::exchange(worker.ejections, 0) > 0;
}

bool ClusterView::CanTakeNew(int index, absl::Duration now) const {
  const WorkerView& worker = workers_[index];
  return worker.discovered && worker.link == LinkState::kUp && worker.load.state() == v1::WORKER_STATE_READY &&
         now - worker.last_frame < kSuspicionAge;
}

bool ClusterView::MayTakeNew(int index) const {
  const WorkerView& worker = workers_[index];
  return worker.discovered && (worker.link == LinkState::kReconnecting ||
                               (worker.link == LinkState::kUp && worker.load.state() == v1::WORKER_STATE_READY));
}

bool ClusterView::AnyRoom(absl::Duration now) const {
  for (int i = 0; i < size(); ++i) {
    const bool drains = workers_[i].link == LinkState::kUp && workers_[i].load.state() == v1::WORKER_STATE_DRAINING;
    if (workers_[i].HasRoom() && (CanTakeNew(i, now) || drains)) return true;
  }
  return false;
}

int ClusterView::UpCount() const {
  return std::count_if(workers_.begin(), workers_.end(), [](const WorkerView& w) { return w.link == LinkState::kUp; });
}

int ClusterView::AttachedGateways() const {
  int gateways = 1;
  for (const WorkerView& worker : workers_) gateways = std::max(gateways, worker.load.attached_gateways());
  return gateways;
}

std::vector<v1::Model> ClusterView::Models() const {
  std::map<std::string, v1::Model> models;
  for (const WorkerView& worker : workers_) {
    if (worker.link == LinkState::kDown) continue;
    for (const v1::Model& model : worker.models) models.emplace(model.name(), model);
  }
  std::vector<v1::Model> list;
  for (auto& [name, model] : models) list.push_back(std::move(model));
  return list;
}

std::string ClusterView::ModelLabel(std::string_view name) const {
  for (const WorkerView& worker : workers_) {
    if (const v1::Model* model = worker.FindModel(name)) return model->name();
  }
  return "other";
}

bool ClusterView::KnowsModel(std::string_view name) const {
  return std::any_of(workers_.begin(), workers_.end(), [&](const WorkerView& worker) { return worker.FindModel(name); });
}

bool IsOlder(const v1::Incarnation& a, const v1::Incarnation& b) {
  return std::pair(a.start_time_micros(), a.random()) < std::pair(b.start_time_micros(), b.random());
}

bool IsSame(const v1::Incarnation& a, const v1::Incarnation& b) { return !IsOlder(a, b) && !IsOlder(b, a); }

}  // namespace berth::routing
