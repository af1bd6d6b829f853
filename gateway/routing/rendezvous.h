#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "proto/berth/v1/generation.pb.h"

namespace berth::routing {

// What places a session: its tenant, then its id up to the first '~', so that a fork lands on its parent's worker.
uint64_t SessionKey(std::string_view tenant, std::string_view session_id);

// What places a conversation without a session id, so that its turns and its siblings meet their cached prefix: model, tenant,
// system message and first user message. Nothing for a prompt that is not a conversation.
std::optional<uint64_t> PrefixKey(std::string_view model, std::string_view tenant, const v1::Prompt& prompt);

// Hash of a worker's id, as RankWorkers takes it.
uint64_t WorkerHash(std::string_view worker_id);

// Indices of the workers, best first, by rendezvous hashing (Thaler and Ravishankar, 1998): every gateway ranks alike with no
// shared state, and without one worker the others keep their order.
std::vector<int> RankWorkers(uint64_t key, std::span<const uint64_t> worker_hashes);

}  // namespace berth::routing
