#include "worker/session/session.h"

namespace berth::session {

History CutHistory(const History& history, int64_t position) {
  History result = history;
  if (position >= static_cast<int64_t>(history.tokens.size())) return result;
  result.tokens.resize(position);
  while (!result.messages.empty() && result.messages.back().begin >= position) result.messages.pop_back();
  if (!result.messages.empty() && result.messages.back().end > position) {
    result.messages.back().end = position;
    result.messages.back().cut = true;
  }
  return result;
}

}  // namespace berth::session
