#pragma once

#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace berth::cli {

// What the programs of the command line end with, beside 0.
inline constexpr int kFailed = 1, kWrongUsage = 2, kNotOffered = 3;
inline constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line is wrong; 3 what was asked for does not "
    "exist.";

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

// Makes a name its value. (CLI11's own would print the values too, as bytes.)
template <typename Value>
CLI::Validator OneOf(const std::map<std::string, Value>& values) {
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "{" : ",") + name;
  names += "}";
  const auto make_value = [values, names, transform = CLI::CheckedTransformer(values)](std::string& text) {
    return values.contains(text) ? transform(text) : text + " not in " + names;
  };
  return {make_value, names};
}

inline constexpr char kWrongUsageUrl[] = "berth/wrong-usage";

// Of a command line whose flags are right each by itself: ExitCode knows it.
inline absl::Status WrongUsage(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kWrongUsageUrl, absl::Cord());
  return status;
}

// What a program ends with whose work ended so; says why when that was an error.
inline int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  std::cerr << "berth: " << status.message() << std::endl;
  if (status.GetPayload(kWrongUsageUrl).has_value()) return kWrongUsage;
  return absl::IsUnimplemented(status) ? kNotOffered : kFailed;
}

}  // namespace berth::cli
