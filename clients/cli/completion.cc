#include "clients/cli/completion.h"

#include <vector>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace berth::cli {
namespace {

// One line of a bash `case` per command: what may follow it.
void AppendCommand(const CLI::App& app, const std::string& path, std::vector<std::string>& commands, std::string& cases) {
  std::vector<std::string> words;
  for (const CLI::App* sub : app.get_subcommands(nullptr)) {
    words.push_back(sub->get_name());
    commands.push_back(absl::StrCat("\"", path, " ", sub->get_name(), "\""));
    AppendCommand(*sub, absl::StrCat(path, " ", sub->get_name()), commands, cases);
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back(absl::StrCat("--", name));
  }
  absl::StrAppend(&cases, "    \"", path, "\") words=\"", absl::StrJoin(words, " "), "\" ;;\n");
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const CLI::App& app, const std::string& shell) {
  if (shell != "bash" && shell != "zsh") {
    return absl::InvalidArgumentError(absl::StrCat("shell is \"", shell, "\", want bash or zsh"));
  }
  std::vector<std::string> commands;
  std::string cases;
  AppendCommand(app, "berth", commands, cases);
  return absl::StrCat(shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "",
                      "_berth() {\n"
                      "  local word path=berth words=\n"
                      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
                      "    case \"$path $word\" in\n      ",
                      absl::StrJoin(commands, "|"),
                      ") path=\"$path $word\" ;;\n"
                      "    esac\n"
                      "  done\n"
                      "  case \"$path\" in\n",
                      cases,
                      "  esac\n"
                      "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
                      "}\n"
                      "complete -o default -F _berth berth\n");
}

}  // namespace berth::cli
