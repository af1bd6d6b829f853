#include "clients/cli/json_file.h"

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace berth::cli {

absl::StatusOr<nlohmann::ordered_json> ReadJsonFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  // A folder opens, and fails when it is read.
  if (!file || !(text << file.rdbuf())) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return nlohmann::ordered_json::parse(text.str(), /*cb=*/nullptr, /*allow_exceptions=*/false);
}

}  // namespace berth::cli
