#include "proto/rpc/api_keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "openssl/sha.h"
#include "proto/rpc/files.h"
#include "proto/rpc/status.h"

namespace berth::rpc {
namespace {

constexpr char kDefaultTenant[] = "default";
constexpr absl::string_view kDigestPrefix = "sha256:";

std::string Digest(std::string_view key) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
}

absl::Status SetLimit(Tenant& tenant, const std::string& word) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
  const auto& [name, value] = parts;
  double* const limit = name == "requests-per-minute" ? &tenant.requests_per_minute
                        : name == "tokens-per-minute" ? &tenant.tokens_per_minute
                                                      : nullptr;
  if (limit != nullptr) {
    if (absl::SimpleAtod(value, limit) && *limit >= 1 && *limit < Tenant::kUnlimited) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, " is \"", value, "\", want a number of at least 1"));
  }
  if (name != "max-priority") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", word, "\", want requests-per-minute=N, tokens-per-minute=N or max-priority=N"));
  }
  if (absl::SimpleAtoi(value, &tenant.max_priority)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is \"", value, "\", want an integer"));
}

bool IsHexDigest(absl::string_view text) {
  return text.size() == 2 * SHA256_DIGEST_LENGTH &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
}

}  // namespace

absl::StatusOr<ApiKeys> ApiKeys::Load(const ApiKeyOptions& options) {
  ApiKeys keys;
  const auto plain = std::make_shared<const Tenant>(Tenant{.name = kDefaultTenant});
  for (const std::string& key : options.keys) {
    if (key.empty()) return absl::InvalidArgumentError("an API key is empty");
    keys.by_digest_.emplace(Digest(key), plain);
  }
  if (options.file.empty()) return keys;
  BERTH_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.file));
  if (absl::Status status = keys.Add(text); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(options.file, status.message()));
  }
  return keys;
}

absl::Status ApiKeys::Add(std::string_view text) {
  int number = 0;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    const std::vector<std::string> words =
        absl::StrSplit(line.substr(0, line.find('#')), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty()) continue;
    if (absl::Status status = AddLine(words); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(":", number, ": ", status.message()));
    }
  }
  if (by_digest_.empty()) return absl::InvalidArgumentError(": there is no key in it");
  return absl::OkStatus();
}

absl::Status ApiKeys::AddLine(const std::vector<std::string>& words) {
  if (words[0] == "tenant" && words.size() >= 2) {
    Tenant tenant{.name = words[1]};
    for (size_t i = 2; i < words.size(); ++i) BERTH_RETURN_IF_ERROR(SetLimit(tenant, words[i]));
    if (tenants_.emplace(words[1], std::make_shared<const Tenant>(std::move(tenant))).second) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("tenant ", words[1], " is there twice"));
  }
  if (words[0] != "key" || words.size() != 3) {
    return absl::InvalidArgumentError("want \"tenant NAME [LIMIT=N]…\" or \"key sha256:HEX NAME\"");
  }
  const absl::string_view digest = absl::StripPrefix(words[1], kDigestPrefix);
  if (digest.size() == words[1].size() || !IsHexDigest(digest)) {
    return absl::InvalidArgumentError("the key is not sha256: and 64 hexadecimal digits");
  }
  const auto tenant = tenants_.find(words[2]);
  if (tenant == tenants_.end())
    return absl::InvalidArgumentError(absl::StrCat("there is no tenant ", words[2], " before its key"));
  if (by_digest_.emplace(absl::AsciiStrToLower(digest), tenant->second).second) return absl::OkStatus();
  return absl::InvalidArgumentError("the key is there twice");
}

std::shared_ptr<const Tenant> ApiKeys::Find(std::string_view key) const {
  const auto found = by_digest_.find(Digest(key));
  return found == by_digest_.end() ? nullptr : found->second;
}

void Authenticator::Replace(ApiKeys keys) {
  auto replacement = std::make_shared<const ApiKeys>(std::move(keys));
  base::MutexLock lock(mutex_);
  keys_ = std::move(replacement);
}

absl::StatusOr<std::shared_ptr<const Tenant>> Authenticator::Authenticate(std::string_view authorization) const {
  std::shared_ptr<const ApiKeys> keys;
  {
    base::MutexLock lock(mutex_);
    keys = keys_;
  }
  if (keys == nullptr) return std::make_shared<const Tenant>(Tenant{.name = kDefaultTenant});
  constexpr std::string_view kBearer = "bearer ";
  if (!absl::StartsWithIgnoreCase(absl::string_view(authorization.data(), authorization.size()), "Bearer ")) {
    return ErrorWithReason(absl::StatusCode::kUnauthenticated, "NO_API_KEY",
                           "want an API key, as \"authorization: Bearer KEY\"");
  }
  authorization.remove_prefix(kBearer.size());
  std::shared_ptr<const Tenant> tenant = keys->Find(authorization);
  if (tenant == nullptr)
    return ErrorWithReason(absl::StatusCode::kUnauthenticated, "UNKNOWN_API_KEY", "the API key is unknown");
  return tenant;
}

}  // namespace berth::rpc
