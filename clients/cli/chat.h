#pragma once

#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "clients/cli/conversation.h"

namespace berth::cli {

// Shows a prompt and returns the line that is typed, without its end; nothing at the end of the input.
using LineSource = std::function<std::optional<std::string>(const std::string& prompt)>;

// Lines of a stream, with the prompts written to `out`. Both outlive it.
LineSource LinesOf(std::istream& in, std::ostream& out);

// Reads inputs and prints answers until `exit` or the end of the input. An empty line (a double Enter) ends an input; `end`
// closes the session, so that the next input begins another; `/image` is kept for models that see; errors are written to
// `errors` and the loop goes on. Closes the session it leaves. Returns the last error.
absl::Status Chat(Conversation& conversation, const LineSource& read_line, std::ostream& out, std::ostream& errors);

}  // namespace berth::cli
