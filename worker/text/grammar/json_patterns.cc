#include "worker/text/grammar/json_patterns.h"

#include "absl/strings/str_cat.h"

namespace berth::text {
namespace {

constexpr char kTime[] = R"(([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[-+]([01]\d|2[0-3]):[0-5]\d))";
constexpr char kDate[] = R"(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))";
constexpr char kOctet[] = R"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
constexpr char kLabel[] = R"([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)";

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

}  // namespace berth::text
