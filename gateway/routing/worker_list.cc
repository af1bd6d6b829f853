#include "gateway/routing/worker_list.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace berth::routing {
namespace {

absl::StatusOr<WorkerAddress> ParseEntry(std::string_view entry) {
  const size_t equals = entry.find('=');
  const size_t colon = entry.rfind(':');
  int port = 0;
  if (equals == std::string_view::npos || colon == std::string_view::npos || equals == 0 || colon <= equals + 1 ||
      !absl::SimpleAtoi(std::string(entry.substr(colon + 1)), &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("worker \"", std::string(entry), "\" is not of the form id=host:port"));
  }
  return WorkerAddress{.id = std::string(entry.substr(0, equals)), .address = std::string(entry.substr(equals + 1))};
}

}  // namespace

absl::StatusOr<std::vector<WorkerAddress>> ParseWorkerList(std::string_view text) {
  std::vector<WorkerAddress> workers;
  absl::flat_hash_set<std::string> ids;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    absl::StatusOr<WorkerAddress> worker = ParseEntry(text.substr(begin, end - begin));
    if (!worker.ok()) return worker.status();
    if (!ids.insert(worker->id).second) {
      return absl::InvalidArgumentError(absl::StrCat("worker id \"", worker->id, "\" is listed twice"));
    }
    workers.push_back(*std::move(worker));
    begin = end + 1;
  }
  return workers;
}

}  // namespace berth::routing
