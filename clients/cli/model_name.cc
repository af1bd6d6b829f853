#include "clients/cli/model_name.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"

namespace berth::cli {
namespace {

namespace fs = std::filesystem;

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// "org/model", of letters, digits and -_. alone: safe to hand to a shell and to make a path of.
bool IsHubName(const std::string& name) {
  const auto legal = [](char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; };
  const size_t slash = name.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < name.size() && name.find('/', slash + 1) == std::string::npos &&
         std::all_of(name.begin(), name.end(), legal) && name[0] != '.' && name[0] != '-' && name[slash + 1] != '.';
}

// The folder itself when it is a Hugging Face directory, or the one GGUF model in it.
absl::StatusOr<std::string> ModelIn(const std::string& folder) {
  if (Exists(folder + "/config.json")) return folder;
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool later_part = absl::StrContains(name, "-of-") && !absl::StrContains(name, "-00001-of-");
    if (entry.path().extension() == ".gguf" && !later_part) files.push_back(entry.path().string());
  }
  if (files.size() == 1) return files.front();
  if (files.empty()) return absl::NotFoundError(absl::StrCat(folder, " has neither a config.json nor a GGUF file"));
  std::sort(files.begin(), files.end());
  return absl::InvalidArgumentError(absl::StrCat(folder, " has ", files.size(), " GGUF models: name one, as ", files.front()));
}

// The snapshot that the cache calls "main"; empty: none.
std::string CachedSnapshot(const std::string& cache, const std::string& name) {
  const std::string folder = absl::StrCat(cache, "/models--", absl::StrReplaceAll(name, {{"/", "--"}}));
  std::ifstream file(folder + "/refs/main");
  std::string revision;
  std::getline(file, revision);
  const std::string snapshot = absl::StrCat(folder, "/snapshots/", revision);
  return !revision.empty() && Exists(snapshot) ? snapshot : "";
}

std::string HubCache(const Environment& environment) {
  const auto value = [&](const char* name) -> std::string {
    const char* const found = environment(name);
    return found == nullptr ? "" : found;
  };
  if (const std::string cache = value("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = value("HF_HOME"); !home.empty()) return home + "/hub";
  return value("HOME") + "/.cache/huggingface/hub";
}

absl::StatusOr<std::string> RunHf(const std::string& name) {
  if (std::system("command -v hf >/dev/null 2>&1") != 0) {
    return absl::NotFoundError(absl::StrCat("there is no file or directory ", name,
                                            ", no such model in the Hugging Face cache, and no tool hf: run "
                                            "`pip install huggingface_hub` and `hf download ",
                                            name, "`"));
  }
  const std::string command = absl::StrCat("hf download ", name);
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return absl::InternalError(absl::StrCat("cannot run ", command));
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t count = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), count);
  const int status = pclose(pipe);
  if (status != 0) {
    return absl::NotFoundError(absl::StrCat("`", command, "` failed with exit code ", WEXITSTATUS(status)));
  }
  absl::StripAsciiWhitespace(&output);
  return output.substr(output.rfind('\n') + 1);
}

}  // namespace

absl::StatusOr<std::string> ResolveModel(const std::string& model, const HubOptions& hub) {
  if (Exists(model) || !IsHubName(model)) return model;
  std::string snapshot = CachedSnapshot(hub.cache, model);
  if (snapshot.empty()) {
    BERTH_ASSIGN_OR_RETURN(snapshot, hub.download(model));
  }
  return ModelIn(snapshot);
}

absl::StatusOr<std::string> ResolveModel(const std::string& model, const Environment& environment) {
  return ResolveModel(model, {.cache = HubCache(environment), .download = RunHf});
}

}  // namespace berth::cli
