#pragma once

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "worker/session/journal.h"
#include "worker/session/redis_options.h"

namespace berth::session {

// One Redis server (5 or later) for the workers of many hosts, all of which must name it alike. UNAVAILABLE when it cannot be
// reached or refuses us. A server that is gone later is tried again twice a second.
absl::StatusOr<std::unique_ptr<Journal>> OpenRedisJournal(RedisOptions options, absl::AnyInvocable<void()> in_commit = nullptr);

}  // namespace berth::session
