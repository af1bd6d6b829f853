#include "clients/cli/environment.h"

#include <sched.h>
#include <sys/utsname.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "google/protobuf/stubs/common.h"
#include "grpcpp/grpcpp.h"

namespace berth::cli {
namespace {

constexpr char kNone[] = "none";

// The value of the first line of a file that begins with `key`: "model name : X" → "X". An empty key: the first line.
std::string FirstValue(const std::filesystem::path& path, absl::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, key)) continue;
    rest = absl::StripLeadingAsciiWhitespace(rest);
    absl::ConsumePrefix(&rest, ":");
    absl::ConsumePrefix(&rest, "=");
    return std::string(absl::StripAsciiWhitespace(rest));
  }
  return kNone;
}

std::string System() {
  utsname name;
  return uname(&name) == 0 ? absl::StrCat(name.sysname, " ", name.release, " ", name.machine) : kNone;
}

std::string Cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? absl::StrCat(CPU_COUNT(&set)) : kNone;
}

// The vector extensions that the CPU kernels ask for.
std::string VectorExtensions() {
  const std::string flags = absl::StrCat(" ", FirstValue("/proc/cpuinfo", "flags"), " ");
  std::vector<std::string> found;
  for (const char* name : {"avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"}) {
    if (flags.find(absl::StrCat(" ", name, " ")) != std::string::npos) found.push_back(name);
  }
  return found.empty() ? kNone : absl::StrJoin(found, " ");
}

std::string Gpus() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    found.push_back(FirstValue(entry.path() / "information", "Model"));
  }
  return found.empty() ? kNone : absl::StrJoin(found, ", ");
}

std::string CudaToolkit() {
  std::error_code error;
  const std::filesystem::path root = std::filesystem::canonical("/usr/local/cuda", error);
  return error ? kNone : root.string();
}

}  // namespace

std::vector<std::pair<std::string, std::string>> DescribeEnvironment(const std::string& version) {
  return {
      {"Berth", version},
      {"System", System()},
      {"Distribution", FirstValue("/etc/os-release", "PRETTY_NAME")},
      {"Processor", FirstValue("/proc/cpuinfo", "model name")},
      {"Cores", Cores()},
      {"Vector extensions", VectorExtensions()},
      {"Memory", FirstValue("/proc/meminfo", "MemTotal")},
      {"GPUs", Gpus()},
      {"NVIDIA driver", FirstValue("/proc/driver/nvidia/version", "NVRM version")},
      {"CUDA toolkit", CudaToolkit()},
      {"Compiler", __VERSION__},
      {"gRPC", grpc::Version()},
      {"Protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
  };
}

}  // namespace berth::cli
