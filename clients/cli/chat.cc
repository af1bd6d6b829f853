#include "clients/cli/chat.h"

#include <optional>
#include <string>

namespace berth::cli {
namespace {

// The lines up to an empty one; a command needs no empty line. Nothing at the end of the input.
std::optional<std::string> ReadInput(std::istream& in) {
  std::string input, line;
  while (std::getline(in, line)) {
    if (input.empty() && (line == "exit" || line == "end")) return line;
    if (line.empty() && !input.empty()) return input;
    if (line.empty()) continue;
    if (!input.empty()) input += '\n';
    input += line;
  }
  if (input.empty()) return std::nullopt;
  return input;
}

}  // namespace

void Chat(Conversation& conversation, std::istream& in, std::ostream& out) {
  while (true) {
    out << "\ndouble enter to end input >>> " << std::flush;
    const std::optional<std::string> input = ReadInput(in);
    if (!input.has_value() || *input == "exit") break;
    absl::Status status;
    if (*input == "end") {
      status = conversation.Close();
      if (status.ok()) out << "the session is closed" << std::endl;
    } else {
      status = conversation.Ask(*input, [&](std::string_view text) { out << text << std::flush; });
      out << std::endl;
    }
    if (!status.ok()) out << "error: " << status.message() << std::endl;
  }
  out << std::endl;
  // The server forgets the session in time should this fail.
  conversation.Close().IgnoreError();
}

}  // namespace berth::cli
