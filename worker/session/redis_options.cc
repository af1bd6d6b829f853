#include "worker/session/redis_options.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace berth::session {
namespace {

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, ", want redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS"));
}

std::string PercentDecoded(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped =
        text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) && absl::ascii_isxdigit(text[i + 2]);
    if (escaped) {
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Splits HOST[:PORT] or [IPV6][:PORT].
bool SplitAddress(absl::string_view address, RedisOptions* options) {
  const size_t close = absl::StartsWith(address, "[") ? address.find(']') : 0;
  if (close == absl::string_view::npos) return false;
  const size_t colon = address.find(':', close);
  options->host = std::string(close > 0 ? address.substr(1, close - 1) : address.substr(0, colon));
  if (options->host.empty()) return false;
  if (colon == absl::string_view::npos) return close == 0 || close + 1 == address.size();
  return absl::SimpleAtoi(address.substr(colon + 1), &options->port) && options->port > 0 && options->port < 65536;
}

}  // namespace

std::string RedisOptions::Name() const {
  const bool ipv6 = absl::StrContains(host, ':');
  return absl::StrCat(tls ? "rediss://" : "redis://", ipv6 ? "[" : "", host, ipv6 ? "]" : "", ":", port, "/", database);
}

absl::StatusOr<RedisOptions> ParseRedisUrl(const std::string& url) {
  RedisOptions options;
  absl::string_view rest = url;
  options.tls = absl::ConsumePrefix(&rest, "rediss://");
  if (!options.tls && !absl::ConsumePrefix(&rest, "redis://")) return Invalid("is no Redis URL");
  if (const size_t at = rest.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view user = rest.substr(0, at);
    const size_t colon = user.find(':');
    if (colon == absl::string_view::npos) return Invalid("names a user without a password");
    options.user = PercentDecoded(user.substr(0, colon));
    options.password = PercentDecoded(user.substr(colon + 1));
    rest.remove_prefix(at + 1);
  }
  const size_t slash = rest.find('/');
  if (slash != absl::string_view::npos && slash + 1 < rest.size()) {
    const absl::string_view database = rest.substr(slash + 1);
    if (!absl::SimpleAtoi(database, &options.database) || options.database < 0) {
      return Invalid(absl::StrCat("has the database \"", database, "\""));
    }
  }
  const absl::string_view address = rest.substr(0, slash);
  if (!SplitAddress(address, &options)) return Invalid(absl::StrCat("has the address \"", address, "\""));
  return options;
}

}  // namespace berth::session
