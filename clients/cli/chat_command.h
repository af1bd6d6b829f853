#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "clients/cli/conversation.h"
#include "clients/cli/serve_command.h"
#include "proto/rpc/tls.h"

namespace berth::cli {

struct ChatFlags {
  ChatFlags();

  ServeFlags own;  // of the server that it starts for a model
  std::string server = "127.0.0.1:23334";
  std::string api_key;
  ConversationOptions conversation;
  std::optional<std::string> prompt;
  bool json = false;  // the prompt's answer as a v1::GenerateResponse
  std::optional<float> temperature, top_p;
  std::optional<int> top_k, max_tokens;
  std::optional<uint64_t> seed;
  std::string generation;  // JSON of a v1::GenerationSpec; the flags above go before it
  rpc::TlsOptions tls;
  std::string history_file;  // of what is typed; "": none
};

void AddChatFlags(CLI::App& app, ChatFlags& flags);
// Of a chat with a server that runs, whose address comes first.
void AddApiClientFlags(CLI::App& app, ChatFlags& flags);

// Talks until the input ends, or answers the one prompt.
absl::Status RunChat(ChatFlags flags);

}  // namespace berth::cli
