#include "clients/cli/chat_command.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/utf8.h"
#include "clients/cli/admin_command.h"
#include "clients/cli/chat.h"
#include "clients/cli/elapsed_line.h"
#include "clients/cli/interrupt_watcher.h"
#include "clients/cli/local_server.h"
#include "clients/cli/message_json.h"
#include "clients/cli/old_spellings.h"
#include "clients/cli/parse_line.h"
#include "clients/cli/terminal.h"
#include "google/protobuf/util/json_util.h"
#include "proto/rpc/collector.h"

namespace berth::cli {
namespace {

// With editing and a history where somebody types, who sees the errors; a program is told the last one.
absl::Status TalkTo(Conversation& conversation, const std::string& history_file) {
  if (!isatty(STDIN_FILENO)) return Chat(conversation, LinesOf(std::cin, std::cout), std::cout, std::cerr);
  Terminal terminal(history_file);
  const auto read_line = [&terminal](const std::string& prompt) { return terminal.ReadLine(prompt); };
  Chat(conversation, read_line, std::cout, std::cout).IgnoreError();
  return absl::OkStatus();
}

// What the server answers by. INVALID_ARGUMENT: the JSON is none of a generation's, or has what each turn sets.
absl::StatusOr<ConversationOptions> OptionsOf(const ChatFlags& flags) {
  ConversationOptions options = flags.conversation;
  v1::GenerationSpec& generation = options.generation;
  const std::string text = flags.generation.empty() ? "{}" : flags.generation;
  if (const auto status = google::protobuf::util::JsonStringToMessage(text, &generation); !status.ok()) {
    return WrongUsage(absl::StrCat("--generation: ", status.ToString()));
  }
  if (generation.has_prompt() || generation.has_session()) {
    return WrongUsage("--generation: prompt and session are each turn's own");
  }
  if (flags.temperature.has_value()) generation.mutable_sampling()->set_temperature(*flags.temperature);
  if (flags.top_p.has_value()) generation.mutable_sampling()->set_top_p(*flags.top_p);
  if (flags.top_k.has_value()) generation.mutable_sampling()->set_top_k(*flags.top_k);
  if (flags.seed.has_value()) generation.mutable_sampling()->set_seed(*flags.seed);
  if (flags.max_tokens.has_value()) generation.mutable_stop()->set_max_tokens(*flags.max_tokens);
  if (flags.json) generation.mutable_output()->set_token_ids(true);
  return options;
}

// Answers the one prompt.
absl::Status Answer(Conversation& conversation, const ChatFlags& flags) {
  rpc::Collector collector;
  absl::Status status = conversation.Ask(*flags.prompt, [&](v1::StreamGenerateResponse message) {
    if (flags.json) return collector.Add(message);
    std::cout << TextOf(message) << std::flush;
  });
  if (!flags.json) {
    std::cout << std::endl;
  } else if (status.ok()) {
    status = WriteJson(collector.response(), std::cout);
  }
  conversation.Close().IgnoreError();
  return status;
}

// A server for the model of the command line; null when there is none.
absl::StatusOr<std::unique_ptr<LocalServer>> StartOwnServer(const ChatFlags& flags) {
  ServeFlags own = flags.own;
  if (own.serve.model.empty() && !own.sim) return nullptr;
  std::cerr << "starting " << (own.sim ? "the simulated engine" : own.serve.model) << " …" << std::endl;
  BERTH_RETURN_IF_ERROR(ResolveServedModel(own.serve));  // here, where no other line gets into a download's progress
  BERTH_ASSIGN_OR_RETURN(std::vector<std::string> arguments, ServeArguments(own));
  std::optional<ElapsedLine> starting("starting");
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<LocalServer> local,
                         LocalServer::Start(std::move(arguments), [&](int percent) { starting->SetPercent(percent); }));
  starting.reset();
  if (!flags.prompt.has_value()) {
    std::cerr << "ready; also at http://" << own.serve.host << ":" << local->ready().http_port << std::endl;
  }
  return local;
}

// Of an answer, and how to reach a server.
void AddConversationFlags(CLI::App& app, ChatFlags& flags) {
  const CLI::Validator utf8([](const std::string& text) { return base::IsUtf8(text) ? "" : "is not UTF-8"; }, "", "utf8");
  auto* const prompt = app.add_option("--prompt", flags.prompt, "Answer this and exit")->check(utf8);
  app.add_flag("--json", flags.json, "The answer to --prompt with its token ids, as JSON with the fields of berth.v1")
      ->needs(prompt);
  app.add_option("--system", flags.conversation.system, "System message")->check(utf8);
  app.add_option("--max-tokens", flags.max_tokens, "Tokens of an answer")->check(CLI::PositiveNumber);
  app.add_option("--temperature", flags.temperature, "0 is greedy")->check(CLI::Range(0.0, 2.0));
  app.add_option("--top-p", flags.top_p)->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", flags.top_k)->check(CLI::NonNegativeNumber);
  app.add_option("--seed", flags.seed, "Makes sampling repeatable");
  app.add_option("--generation", flags.generation,
                 "What else an answer is made by, as JSON of a berth.v1.GenerationSpec: {\"sampling\": {\"min_p\": 0.1}}");
  app.add_option("--session-id", flags.conversation.session_id, "Name of the session on the server; default: a drawn one")
      ->check(utf8);
  AddClientTlsFlags(app, flags.tls);
  app.add_option("--api-key", flags.api_key, "Key for the server");
}

}  // namespace

ChatFlags::ChatFlags() {
  // The own server of a chat is in nobody's way.
  own.serve.http_port = own.serve.grpc_port = own.serve.admin_port = own.serve.metrics_port = 0;
}

void AddChatFlags(CLI::App& app, ChatFlags& flags) {
  auto* const model =
      app.add_option("model", flags.own.serve.model, "Start a server for this model, as for berth serve; or --server's");
  app.add_option("--server", flags.server,
                 "Talk to these gateways (or a worker): host:port,… of their gRPC APIs, or http://host:port of one's HTTP API")
      ->excludes(model)
      ->capture_default_str();
  AddServerFlags(app, flags.own);
  AddConversationFlags(app, flags);
}

void AddApiClientFlags(CLI::App& app, ChatFlags& flags) {
  app.add_option("server", flags.server, "http://host:port of a gateway's HTTP API, or host:port of its gRPC API")->required();
  app.add_option("--model-name", flags.own.serve.model_name, "The model's name there; default: the only one");
  AddConversationFlags(app, flags);
}

absl::Status RunChat(ChatFlags flags) {
  ServeOptions& serve = flags.own.serve;
  std::error_code ignored;
  if (!std::filesystem::exists(serve.model, ignored) && ServerAddress(serve.model).ok()) {
    flags.server = std::exchange(serve.model, {});
  }
  const absl::StatusOr<std::string> server = ServerAddress(flags.server);
  if (!server.ok()) return WrongUsage(server.status().message());
  flags.server = *server;
  BERTH_ASSIGN_OR_RETURN(ConversationOptions options, OptionsOf(flags));
  BERTH_ASSIGN_OR_RETURN(const std::unique_ptr<LocalServer> local, StartOwnServer(flags));
  if (local == nullptr) {
    options.model = serve.model_name;
  } else {
    flags.server = absl::StrCat(serve.host, ":", local->ready().grpc_port);
  }
  BlockInterrupts();  // before gRPC starts its threads
  BERTH_ASSIGN_OR_RETURN(
      const auto client,
      client::Client::Make({.gateways = absl::StrSplit(flags.server, ','), .api_key = flags.api_key, .tls = flags.tls}));
  Conversation conversation(*client, options);
  const InterruptWatcher interrupts([&conversation] {
    if (!conversation.Interrupt()) std::cerr << "\n(`exit` leaves)" << std::endl;
  });
  return flags.prompt.has_value() ? Answer(conversation, flags) : TalkTo(conversation, flags.history_file);
}

}  // namespace berth::cli
