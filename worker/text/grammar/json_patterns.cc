#include "worker/text/grammar/json_patterns.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace berth::text {
namespace {

constexpr char kTime[] = R"(([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[-+]([01]\d|2[0-3]):[0-5]\d))";
constexpr char kDate[] = R"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))";
constexpr char kOctet[] = R"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
constexpr char kLabel[] = R"([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)";

// A pattern of the integers low … high with the same number of digits, both at least 0.
std::string SameLengthPattern(const std::string& low, const std::string& high) {
  const size_t n = low.size();
  if (n == 0 || low == high) return low;
  if (low == std::string(n, '0') && high == std::string(n, '9')) return absl::StrCat("[0-9]{", n, "}");
  const std::string low_tail = low.substr(1), high_tail = high.substr(1);
  if (low[0] == high[0]) return absl::StrCat(std::string(1, low[0]), SameLengthPattern(low_tail, high_tail));
  const std::string least(n - 1, '0'), most(n - 1, '9');
  std::string out = absl::StrCat("(", std::string(1, low[0]), SameLengthPattern(low_tail, most));
  if (high[0] - low[0] > 1) {
    absl::StrAppend(&out, "|[", std::string(1, low[0] + 1), "-", std::string(1, high[0] - 1), "]",
                    SameLengthPattern(least, most));
  }
  return absl::StrCat(out, "|", std::string(1, high[0]), SameLengthPattern(least, high_tail), ")");
}

// `high` empty: without end. Both without sign.
std::string NaturalPattern(uint64_t low, const std::string& high) {
  std::string from = absl::StrCat(low), out;
  while (high.empty() ? out.empty() : from.size() < high.size()) {
    absl::StrAppend(&out, out.empty() ? "" : "|", SameLengthPattern(from, std::string(from.size(), '9')));
    from = absl::StrCat("1", std::string(from.size(), '0'));
  }
  if (high.empty()) return absl::StrCat(out, "|[1-9][0-9]{", from.size() - 1, ",}");
  return absl::StrCat(out, out.empty() ? "" : "|", SameLengthPattern(from, high));
}

}  // namespace

std::string FormatPattern(const std::string& format) {
  if (format == "date") return std::string(kDate);
  if (format == "time") return std::string(kTime);
  if (format == "date-time") return absl::StrCat(kDate, "T", kTime);
  if (format == "duration") {
    return R"(P((\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)(T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S))?|T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)|\d+W))";
  }
  if (format == "email") return absl::StrCat(R"([a-zA-Z0-9_'+\-]+(\.[a-zA-Z0-9_'+\-]+)*@)", kLabel, R"((\.)", kLabel, ")+");
  if (format == "hostname") return absl::StrCat(kLabel, R"((\.)", kLabel, ")*");
  if (format == "ipv4") return absl::StrCat(kOctet, R"((\.)", kOctet, "){3}");
  if (format == "ipv6") return R"(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4})";
  if (format == "uuid") return R"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})";
  return "";
}

std::string IntegerPattern(const std::optional<int64_t>& low, const std::optional<int64_t>& high) {
  std::vector<std::string> signs;
  if (!low.has_value() || *low < 0) {  // negative numbers: the least by size is -high or 1
    const uint64_t least = high.has_value() && *high < 0 ? -static_cast<uint64_t>(*high) : 1;
    signs.push_back(
        absl::StrCat("-(", NaturalPattern(least, low.has_value() ? absl::StrCat(-static_cast<uint64_t>(*low)) : ""), ")"));
  }
  if (!high.has_value() || *high >= 0) {
    const uint64_t least = low.has_value() && *low > 0 ? *low : 0;
    signs.push_back(NaturalPattern(least, high.has_value() ? absl::StrCat(*high) : ""));
  }
  return absl::StrJoin(signs, "|");
}

// Whole ones, and those between two whole ones of which both are within or bounds.
std::string NumberPattern(const NumberBounds& bounds) {
  constexpr char kFraction[] = R"(\.[0-9]*[1-9][0-9]*)";
  const auto& [low, high, above_low, below_high] = bounds;
  const auto moved = [](const std::optional<int64_t>& bound, int64_t step) {
    return bound.has_value() ? std::optional(*bound + step) : std::nullopt;
  };
  const auto negated = [](const std::optional<int64_t>& bound) {
    return bound.has_value() ? std::optional(-*bound) : std::nullopt;
  };
  std::vector<std::string> kinds;
  const auto add = [&kinds](const char* sign, std::optional<int64_t> least, std::optional<int64_t> most, const char* fraction) {
    if (least.has_value() && most.has_value() && *least > *most) return;
    kinds.push_back(absl::StrCat(sign, "(", IntegerPattern(least, most), ")", fraction));
  };
  add("", moved(low, above_low ? 1 : 0), moved(high, below_high ? -1 : 0), R"((\.0+)?)");
  add("", std::max<int64_t>(low.value_or(0), 0), moved(high, -1), kFraction);
  add("-", std::max<int64_t>(-high.value_or(0), 0), moved(negated(low), -1), kFraction);
  return absl::StrJoin(kinds, "|");
}

}  // namespace berth::text
