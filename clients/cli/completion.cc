#include "clients/cli/completion.h"

#include <vector>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace berth::cli {
namespace {

// One line of a bash `case` per command: what may follow it. What other programs read, they tell when the shell asks.
void AppendCommand(const CLI::App& app, const std::string& path, std::vector<std::string>& commands, std::string& cases) {
  std::vector<std::string> words, flags;
  for (const CLI::App* sub : app.get_subcommands(nullptr)) {
    words.push_back(sub->get_name());
    commands.push_back(absl::StrCat("\"", path, " ", sub->get_name(), "\""));
    AppendCommand(*sub, absl::StrCat(path, " ", sub->get_name()), commands, cases);
  }
  if (app.get_prefix_command() || app.get_allow_extras()) {
    flags.push_back("$(_berth_flags)");
  } else {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) flags.push_back(absl::StrCat("--", name));
    }
  }
  absl::StrAppend(&cases, "    \"", path, "\") words=\"", absl::StrJoin(words, " "), "\" flags=\"", absl::StrJoin(flags, " "),
                  "\" ;;\n");
}

}  // namespace

std::string CompletionScript(const CLI::App& app, const std::string& shell) {
  std::vector<std::string> commands;
  std::string cases;
  AppendCommand(app, "berth", commands, cases);
  return absl::StrCat(shell == "zsh" ? "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n" : "",
                      R"(_berth_flags() {
  "${COMP_WORDS[0]}" ${command#berth} --help 2>/dev/null | grep -oE '^ +-[^ ]+' | tr ', ' '\n' | grep '^--'
}
_berth() {
  local word command=berth words= flags=
  for word in "${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
    case "$command $word" in
      )",
                      absl::StrJoin(commands, "|"), R"() command="$command $word" ;;
    esac
  done
  case "$command" in
)",
                      cases, R"(  esac
  word=${COMP_WORDS[COMP_CWORD]}
  case "$word" in -*) words=$flags ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _berth berth
)");
}

}  // namespace berth::cli
