#include "worker/session/session.h"

#include <algorithm>

namespace berth::session {

size_t BytesOf(const History& history) {
  size_t bytes = sizeof(history) + history.tokens.size() * sizeof(int32_t);
  for (const Message& message : history.messages) bytes += sizeof(message) + message.content.size();
  return bytes;
}

std::optional<History> HistoryAt(const History& history, int64_t position) {
  const int64_t length = static_cast<int64_t>(history.tokens.size());
  const auto told = std::find_if(history.messages.rbegin(), history.messages.rend(),
                                 [&](const Message& message) { return message.told != 0 && message.told == position; });
  if (told == history.messages.rend() && (position < 0 || position > length)) return std::nullopt;
  History result = history;
  if (told != history.messages.rend()) {
    result.messages.resize(history.messages.rend() - told);
    result.tokens.resize(told->end);
    return result;
  }
  result.tokens.resize(position);
  while (!result.messages.empty() && result.messages.back().begin >= position) result.messages.pop_back();
  if (!result.messages.empty() && result.messages.back().end > position) {
    result.messages.back().end = position;
    result.messages.back().cut = true;
  }
  return result;
}

}  // namespace berth::session
