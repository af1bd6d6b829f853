#include "gateway/relay/attempts.h"

#include <utility>

#include "base/check.h"

namespace berth::relay {

uint64_t Attempts::Begin(const Attempt& attempt) {
  attempts_[++last_id_] = attempt;
  view_.StreamOpened(attempt.worker);
  if (attempt.suspect) view_.SetSuspect(attempt.worker, true);
  return last_id_;
}

const Attempt* Attempts::Find(uint64_t id) const {
  const auto it = attempts_.find(id);
  return it == attempts_.end() ? nullptr : &it->second;
}

void Attempts::EndSuspicion(uint64_t id) {
  Attempt& attempt = attempts_.at(id);
  if (std::exchange(attempt.suspect, false)) view_.SetSuspect(attempt.worker, false);
}

int Attempts::End(uint64_t id) {
  BERTH_CHECK(attempts_.contains(id)) << "attempt " << id << " ended twice";
  EndSuspicion(id);
  const int worker = attempts_.extract(id).mapped().worker;
  view_.StreamClosed(worker);
  return worker;
}

std::vector<uint64_t> Attempts::LeftAt(int worker) const {
  std::vector<uint64_t> left;
  for (const auto& [id, attempt] : attempts_) {
    if (attempt.worker == worker && attempt.stream == 0) left.push_back(id);
  }
  return left;
}

}  // namespace berth::relay
