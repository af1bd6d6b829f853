#pragma once

#include <string>

#include "CLI/App.hpp"

namespace berth::cli {

// A script that makes `shell` ("bash" or "zsh") complete the app's commands and flags, and files where it knows none. Of a
// command that hands flags on to another program they are those that its --help tells.
std::string CompletionScript(const CLI::App& app, const std::string& shell);

}  // namespace berth::cli
