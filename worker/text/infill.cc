#include "worker/text/infill.h"

#include <algorithm>
#include <string>

#include "base/status.h"

namespace berth::text {
namespace {

struct Names {
  const char *before, *after, *middle, *end;
  bool adds_space = false;
};
constexpr Names kFormats[] = {
    {"▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>", true},
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", ""},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", ""},
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ""},
};

constexpr EncodeOptions kPlain = {.add_special = false, .parse_special = false};
// A character that joins nothing in a SentencePiece vocabulary.
constexpr char kApart[] = "☺";

void Append(const std::vector<int32_t>& from, std::vector<int32_t>& to) { to.insert(to.end(), from.begin(), from.end()); }

// Without the space that the tokenizer puts in front of a text.
absl::StatusOr<std::vector<int32_t>> EncodeInside(const Tokenizer& tokenizer, std::string_view text) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> apart, tokenizer.Encode(kApart, kPlain));
  BERTH_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.Encode(kApart + std::string(text), kPlain));
  ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(std::min(apart.size(), ids.size())));
  return ids;
}

}  // namespace

std::optional<InfillFormat> FindInfillFormat(const Tokenizer& tokenizer) {
  for (const Names& names : kFormats) {
    const InfillFormat format{.before = tokenizer.IdOf(names.before),
                              .after = tokenizer.IdOf(names.after),
                              .middle = tokenizer.IdOf(names.middle),
                              .end = tokenizer.IdOf(names.end),
                              .adds_space = names.adds_space};
    if (format.before >= 0 && format.after >= 0 && format.middle >= 0) return format;
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<int32_t>> EncodeInfill(const Tokenizer& tokenizer, const InfillFormat& format,
                                                  std::string_view prefix, std::string_view suffix) {
  BERTH_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.Encode("", {}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> front, tokenizer.Encode(prefix, kPlain));
  BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> back,
                         format.adds_space ? EncodeInside(tokenizer, suffix) : tokenizer.Encode(suffix, kPlain));
  ids.push_back(format.before);
  Append(front, ids);
  ids.push_back(format.after);
  Append(back, ids);
  ids.push_back(format.middle);
  return ids;
}

}  // namespace berth::text
