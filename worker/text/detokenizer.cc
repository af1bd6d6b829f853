#include "worker/text/detokenizer.h"

#include <algorithm>

#include "worker/text/utf8.h"

namespace berth::text {

using BrokenBytes = DecoderRules::BrokenBytes;

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special, absl::Span<const int32_t> prompt_tail)
    : tokenizer_(tokenizer), skip_special_(skip_special) {
  at_first_token_ = std::all_of(prompt_tail.begin(), prompt_tail.end(),
                                [&](int32_t id) { return tokenizer.TokenBytes(id, !skip_special).empty(); });
  spaces_to_strip_ = at_first_token_ ? tokenizer.decoder_rules().strip_start_spaces : 0;
}

std::string StreamingDetokenizer::Append(absl::Span<const int32_t> ids) {
  std::string out;
  for (int32_t id : ids) {
    const std::string_view bytes = tokenizer_.TokenBytes(id, !skip_special_);
    if (tokenizer_.IsByteToken(id)) {
      AppendByte(bytes.front(), out);
    } else if (!bytes.empty()) {
      AppendPiece(bytes, id != tokenizer_.decoder_rules().keep_spaces_of, out);
    } else if (tokenizer_.decoder_rules().broken == BrokenBytes::kPerByte) {
      EndByteRun(out);  // SentencePiece ends a run of bytes even at a token without text
    }
  }
  return out;
}

std::string StreamingDetokenizer::Finish() {
  std::string out;
  EndByteRun(out);
  return out;
}

void StreamingDetokenizer::AppendByte(char byte, std::string& out) {
  at_first_token_ = false;
  pending_.push_back(byte);
  if (tokenizer_.decoder_rules().broken == BrokenBytes::kWholeRun) return;
  while (!pending_.empty() && UnfinishedUtf8Tail(pending_) != pending_.size()) {
    const Utf8Char c = FirstUtf8Char(pending_);
    const size_t size = c.code_point < 0 ? 1 : c.size;
    Emit(c.code_point < 0 ? kReplacementCharacter : std::string_view(pending_).substr(0, size), false, out);
    pending_.erase(0, size);
  }
}

void StreamingDetokenizer::AppendPiece(std::string_view bytes, bool strip, std::string& out) {
  const DecoderRules& rules = tokenizer_.decoder_rules();
  if (rules.broken == BrokenBytes::kMaximalSubpart) {
    pending_.append(bytes);
    if (at_first_token_ && rules.drop_first_token_spaces) std::erase(pending_, ' ');
    const size_t tail = UnfinishedUtf8Tail(pending_);
    std::string text;
    AppendLossyUtf8(std::string_view(pending_).substr(0, pending_.size() - tail), text);
    pending_.erase(0, pending_.size() - tail);
    Emit(text, strip, out);
  } else {
    EndByteRun(out);
    Emit(bytes, strip, out);
  }
  at_first_token_ = false;
}

void StreamingDetokenizer::EndByteRun(std::string& out) {
  std::string text;
  if (tokenizer_.decoder_rules().broken == BrokenBytes::kMaximalSubpart) {
    AppendLossyUtf8(pending_, text);
  } else if (FindInvalidUtf8(pending_) == std::string_view::npos) {
    text = pending_;
  } else {
    for (size_t i = 0; i < pending_.size(); ++i) text.append(kReplacementCharacter);
  }
  pending_.clear();
  Emit(text, !tokenizer_.decoder_rules().keep_byte_spaces, out);
}

void StreamingDetokenizer::Emit(std::string_view text, bool strip, std::string& out) {
  if (text.empty()) return;
  while (strip && spaces_to_strip_ > 0 && text.starts_with(' ')) {
    text.remove_prefix(1);
    --spaces_to_strip_;
  }
  if (!text.empty()) spaces_to_strip_ = 0;
  out.append(text);
}

}  // namespace berth::text
