#include "worker/session/turn_row.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"

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

}  // namespace

TurnRow MakeTurnRow(const CommitRequest& request) {
  const History& after = *request.after;
  const absl::Span<const int32_t> tokens = absl::MakeSpan(after.tokens).subspan(request.keep_tokens);
  return {.version = NextVersion(request.fence, request.from_version),
          .keep_tokens = request.keep_tokens,
          .keep_messages = request.keep_messages,
          .tokens = {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t)},
          .messages = EncodeMessages(absl::MakeSpan(after.messages).subspan(request.keep_messages)),
          .request_id = after.last_request_id,
          .output_begin = after.last_output_begin,
          .finish_reason = after.last_finish_reason};
}

absl::Status Fold(const TurnRow& row, History* history) {
  BERTH_ASSIGN_OR_RETURN(std::vector<Message> messages, DecodeMessages(row.messages));
  if (row.keep_tokens < 0 || row.keep_tokens > static_cast<int64_t>(history->tokens.size()) || row.keep_messages < 0 ||
      row.keep_messages > static_cast<int64_t>(history->messages.size()) || row.tokens.size() % sizeof(int32_t) != 0) {
    return absl::DataLossError(
        absl::StrCat("the journal's version ", row.version, " of a session does not fit the one before"));
  }
  history->version = row.version;
  history->tokens.resize(row.keep_tokens + row.tokens.size() / sizeof(int32_t));
  std::memcpy(history->tokens.data() + row.keep_tokens, row.tokens.data(), row.tokens.size());
  history->messages.resize(row.keep_messages);
  history->messages.insert(history->messages.end(), messages.begin(), messages.end());
  history->last_request_id = row.request_id;
  history->last_output_begin = row.output_begin;
  history->last_finish_reason = static_cast<int>(row.finish_reason);
  return absl::OkStatus();
}

std::string KeyBytes(const SessionKey& key) {
  std::string bytes;
  for (const std::string* part : {&key.tenant, &key.model, &key.session_id}) {
    absl::StrAppend(&bytes, part->size(), ":", *part);
  }
  return bytes;
}

}  // namespace berth::session
