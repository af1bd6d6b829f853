#include "gateway/routing/rendezvous.h"

#include <algorithm>
#include <numeric>

#include "base/hash.h"

namespace berth::routing {

uint64_t SessionKey(std::string_view tenant, std::string_view session_id) {
  return base::Hash64(session_id.substr(0, session_id.find('~')), base::Hash64(tenant));
}

std::optional<uint64_t> PrefixKey(std::string_view model, std::string_view tenant, const v1::Prompt& prompt) {
  if (!prompt.has_chat()) return std::nullopt;
  uint64_t key = base::Hash64(model, base::Hash64(tenant));
  bool has_system = false;
  for (const v1::ChatMessage& message : prompt.chat().messages()) {
    if (message.role() == "system" && !has_system) {
      has_system = true;
      key = base::Hash64(message.content(), base::HashCombine(key, 1));
    }
    if (message.role() == "user") return base::Hash64(message.content(), base::HashCombine(key, 2));
  }
  return key;
}

uint64_t WorkerHash(std::string_view worker_id) { return base::Hash64(worker_id); }

std::vector<int> RankWorkers(uint64_t key, std::span<const uint64_t> worker_hashes) {
  std::vector<uint64_t> scores;
  scores.reserve(worker_hashes.size());
  for (uint64_t hash : worker_hashes) scores.push_back(base::HashCombine(base::HashCombine(hash, key), hash));
  std::vector<int> order(worker_hashes.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return std::pair(scores[a], worker_hashes[a]) > std::pair(scores[b], worker_hashes[b]); });
  return order;
}

}  // namespace berth::routing
