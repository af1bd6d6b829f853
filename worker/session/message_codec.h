#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/session/session.h"

namespace berth::session {

// Messages as the bytes that journals store. DATA_LOSS when the bytes are not such.
std::string EncodeMessages(absl::Span<const Message> messages);
absl::StatusOr<std::vector<Message>> DecodeMessages(std::string_view bytes);

}  // namespace berth::session
