// Two turns of one conversation through any of a cluster's gateways: client-example HOST:PORT[,HOST:PORT…] [MODEL]

#include <cstdio>
#include <string>

#include "absl/strings/str_split.h"
#include "clients/cpp/client.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: client-example HOST:PORT[,HOST:PORT...] [MODEL]\n");
    return 2;
  }
  berth::client::ClientOptions options{.gateways = absl::StrSplit(argv[1], ',')};
  const auto client = berth::client::Client::Make(options);
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", std::string(client.status().message()).c_str());
    return 1;
  }
  for (const char* text : {"What is a berth?", "And who takes one?"}) {
    // The worker keeps the history: a later turn carries its new message only.
    berth::v1::GenerationSpec turn;
    turn.set_model(argc > 2 ? argv[2] : "");
    turn.set_session_id("example");
    turn.mutable_session()->set_mode(berth::v1::SESSION_MODE_INTERACTIVE);
    turn.mutable_session()->set_start(text[0] == 'W');
    turn.mutable_session()->set_replace(true);
    turn.mutable_stop()->set_max_tokens(100);
    berth::v1::ChatMessage& message = *turn.mutable_prompt()->mutable_chat()->add_messages();
    message.set_role("user");
    message.set_content(text);
    const absl::Status status = (*client)->Generate(
        turn, [](const auto& part) { std::fputs(part.delta().text().c_str(), stdout); }, absl::Minutes(1));
    std::printf("\n");
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      return 1;
    }
  }
  return 0;
}
