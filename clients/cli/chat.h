#pragma once

#include <istream>
#include <ostream>

#include "clients/cli/conversation.h"

namespace berth::cli {

// Reads inputs and prints answers until `exit` or the end of the input. An empty line (a double Enter) ends an input; `end`
// closes the session, so that the next input begins another; errors are printed and the loop goes on. Closes the session it
// leaves.
void Chat(Conversation& conversation, std::istream& in, std::ostream& out);

}  // namespace berth::cli
