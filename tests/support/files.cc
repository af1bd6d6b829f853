#include "tests/support/files.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"

namespace berth::testing {

TempDir::TempDir() : path_((std::filesystem::temp_directory_path() / "berth-test-XXXXXX").string()) {
  BERTH_CHECK(mkdtemp(path_.data()) != nullptr) << path_;
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  BERTH_CHECK(stream.good()) << "cannot read " << path;
  return std::move(bytes).str();
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream << bytes;
  stream.close();
  BERTH_CHECK(stream.good()) << "cannot write " << path;
}

}  // namespace berth::testing
