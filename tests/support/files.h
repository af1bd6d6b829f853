#pragma once

#include <string>
#include <string_view>

namespace berth::testing {

// A new directory under the system's temporary one, removed with all in it on destruction.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string PathOf(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

// Both end the process when they fail.
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, std::string_view bytes);

}  // namespace berth::testing
