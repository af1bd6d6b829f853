#include "worker/session/message_codec.h"

#include <cstring>

namespace berth::session {
namespace {

void PutNumber(int64_t value, std::string* out) { out->append(reinterpret_cast<const char*>(&value), sizeof(value)); }

void PutText(std::string_view text, std::string* out) {
  PutNumber(static_cast<int64_t>(text.size()), out);
  out->append(text);
}

bool TakeNumber(std::string_view* bytes, int64_t* value) {
  if (bytes->size() < sizeof(*value)) return false;
  std::memcpy(value, bytes->data(), sizeof(*value));
  bytes->remove_prefix(sizeof(*value));
  return true;
}

bool TakeText(std::string_view* bytes, std::string* text) {
  int64_t size = 0;
  if (!TakeNumber(bytes, &size) || size < 0 || static_cast<uint64_t>(size) > bytes->size()) return false;
  text->assign(bytes->substr(0, size));
  bytes->remove_prefix(size);
  return true;
}

}  // namespace

std::string EncodeMessages(absl::Span<const Message> messages) {
  std::string out;
  for (const Message& message : messages) {
    PutText(message.role, &out);
    PutText(message.content, &out);
    PutNumber(message.begin, &out);
    PutNumber(message.end, &out);
    PutNumber(message.told, &out);
    PutNumber(message.cut, &out);
  }
  return out;
}

absl::StatusOr<std::vector<Message>> DecodeMessages(std::string_view bytes) {
  std::vector<Message> messages;
  while (!bytes.empty()) {
    Message message;
    int64_t cut = 0;
    if (!TakeText(&bytes, &message.role) || !TakeText(&bytes, &message.content) || !TakeNumber(&bytes, &message.begin) ||
        !TakeNumber(&bytes, &message.end) || !TakeNumber(&bytes, &message.told) || !TakeNumber(&bytes, &cut)) {
      return absl::DataLossError("the journal holds a row whose messages cannot be read");
    }
    message.cut = cut != 0;
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace berth::session
