#pragma once

#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cli/serve.h"

namespace berth::cli {

// What `berth serve` and the server of a `berth chat` are told.
struct ServeFlags {
  ServeOptions serve;
  bool ready_line = false;
  bool loaded_lines = false;
  bool sim = false;
};

// The flags that both commands have.
void AddServerFlags(CLI::App& app, ServeFlags& flags);
// All of `berth serve`.
void AddServeFlags(CLI::App& app, ServeFlags& flags);

absl::Status RunServe(ServeFlags flags);

// Finds or downloads what org/model names; that stays the model's name.
absl::Status ResolveServedModel(ServeOptions& serve);

// The command line of a `berth serve` with these flags, the program first.
absl::StatusOr<std::vector<std::string>> ServeArguments(const ServeFlags& flags);

}  // namespace berth::cli
