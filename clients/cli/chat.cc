#include "clients/cli/chat.h"

#include "absl/strings/match.h"
#include "base/utf8.h"

namespace berth::cli {
namespace {

// The lines up to an empty one; a command needs no empty line. Nothing at the end of the input.
std::optional<std::string> ReadInput(const LineSource& read_line) {
  std::string prompt = "double enter to end input >>> ", input;
  while (const std::optional<std::string> line = read_line(prompt)) {
    if (input.empty() && (*line == "exit" || *line == "end" || absl::StartsWith(*line, "/image"))) return line;
    if (line->empty() && !input.empty()) return input;
    if (line->empty()) continue;
    prompt.clear();
    if (!input.empty()) input += '\n';
    input += *line;
  }
  if (input.empty()) return std::nullopt;
  return input;
}

}  // namespace

LineSource LinesOf(std::istream& in, std::ostream& out) {
  return [&in, &out](const std::string& prompt) -> std::optional<std::string> {
    out << prompt << std::flush;
    std::string line;
    if (!std::getline(in, line)) return std::nullopt;
    return line;
  };
}

absl::Status Chat(Conversation& conversation, const LineSource& read_line, std::ostream& out, std::ostream& errors) {
  absl::Status last;
  while (true) {
    out << std::endl;
    const std::optional<std::string> input = ReadInput(read_line);
    if (!input.has_value() || *input == "exit") break;
    absl::Status status;
    if (*input == "end") {
      status = conversation.Close();
      if (status.ok()) out << "the session is closed" << std::endl;
    } else if (absl::StartsWith(*input, "/image")) {
      status = absl::UnimplementedError("/image: no model that Berth serves takes images");
    } else if (!base::IsUtf8(*input)) {
      status = absl::InvalidArgumentError("the input is not UTF-8");
    } else {
      status = conversation.Ask(*input, [&](const auto& message) { out << TextOf(message) << std::flush; });
      out << std::endl;
    }
    if (status.ok()) continue;
    errors << "error: " << status.message() << std::endl;
    last = status;
  }
  out << std::endl;
  // The server forgets the session in time should this fail.
  conversation.Close().IgnoreError();
  return last;
}

}  // namespace berth::cli
