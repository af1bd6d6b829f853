#include "worker/text/normalizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "unicode/bytestream.h"
#include "unicode/normalizer2.h"
#include "unicode/stringpiece.h"
#include "unicode/uchar.h"
#include "worker/text/utf8.h"

namespace berth::text {
namespace {

const icu::Normalizer2* UnicodeForm(NormalizerStep::Kind kind, UErrorCode& error) {
  switch (kind) {
    case NormalizerStep::Kind::kNfc:
      return icu::Normalizer2::getNFCInstance(error);
    case NormalizerStep::Kind::kNfd:
      return icu::Normalizer2::getNFDInstance(error);
    case NormalizerStep::Kind::kNfkc:
      return icu::Normalizer2::getNFKCInstance(error);
    default:
      return icu::Normalizer2::getNFKDInstance(error);
  }
}

absl::StatusOr<std::string> ToUnicodeForm(NormalizerStep::Kind kind, std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* form = UnicodeForm(kind, error);
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
  const icu::StringPiece source(text.data(), static_cast<int32_t>(text.size()));
  if (U_SUCCESS(error)) form->normalizeUTF8(0, source, sink, nullptr, error);
  if (U_FAILURE(error)) return absl::InvalidArgumentError(absl::StrCat("Unicode normalization: ", u_errorName(error)));
  return out;
}

// Calls append(code_point, out) for every character.
template <typename Append>
std::string MapCharacters(std::string_view text, Append append) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = FirstUtf8Char(text);
    append(c.code_point, out);
    text.remove_prefix(c.size);
  }
  return out;
}

// Character by character, without the final sigma of whole-word lower-casing.
void AppendLower(int32_t code_point, std::string& out) {
  constexpr int32_t kCapitalIWithDot = 0x130;
  if (code_point == kCapitalIWithDot) {
    out.append("i\xCC\x87");
  } else {
    AppendUtf8(u_tolower(code_point), out);
  }
}

void AppendUnlessMark(int32_t code_point, std::string& out) {
  if ((U_GET_GC_MASK(code_point) & U_GC_M_MASK) == 0) AppendUtf8(code_point, out);
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Make(std::vector<NormalizerStep> steps) {
  Normalizer normalizer;
  for (const NormalizerStep& step : steps) {
    normalizer.matcher_of_.push_back(normalizer.matchers_.size());
    if (step.kind != NormalizerStep::Kind::kReplace) continue;
    BERTH_ASSIGN_OR_RETURN(Matcher matcher, Matcher::Compile(step.pattern));
    normalizer.matchers_.push_back(std::move(matcher));
  }
  normalizer.steps_ = std::move(steps);
  return normalizer;
}

absl::StatusOr<std::string> Normalizer::Normalize(std::string_view text) const {
  std::string out(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(out, Apply(i, std::move(out)));
  }
  return out;
}

absl::StatusOr<std::string> Normalizer::Apply(size_t index, std::string text) const {
  const NormalizerStep& step = steps_[index];
  switch (step.kind) {
    case NormalizerStep::Kind::kLowercase:
      return MapCharacters(text, AppendLower);
    case NormalizerStep::Kind::kStripAccents:
      return MapCharacters(text, AppendUnlessMark);
    case NormalizerStep::Kind::kStrip: {
      std::string_view rest = text;
      if (step.strip_left) rest.remove_prefix(LeadingSpace(rest));
      if (step.strip_right) rest.remove_suffix(TrailingSpace(rest));
      return std::string(rest);
    }
    case NormalizerStep::Kind::kPrepend:
      return text.empty() ? text : step.content + text;
    case NormalizerStep::Kind::kReplace: {
      Matcher::Scan scan(matchers_[matcher_of_[index]]);
      BERTH_ASSIGN_OR_RETURN(const auto matches, scan.FindAll(text));
      std::string out;
      size_t at = 0;
      for (const auto& [begin, end] : matches) {
        out.append(text, at, begin - at).append(step.content);
        at = end;
      }
      out.append(text, at);
      return out;
    }
    default:
      return ToUnicodeForm(step.kind, text);
  }
}

}  // namespace berth::text
