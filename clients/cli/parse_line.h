#pragma once

#include <optional>
#include <utility>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"

namespace berth::cli {

// What the programs of the command line end with, beside 0.
inline constexpr int kFailed = 1, kWrongUsage = 2, kNotOffered = 3;

// `line` is what CLI::App::parse takes. The code to exit with when it is wrong, or asks for help alone.
template <typename... Line>
std::optional<int> ParseLine(CLI::App& app, Line&&... line) {
  try {
    app.parse(std::forward<Line>(line)...);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  return std::nullopt;
}

}  // namespace berth::cli
