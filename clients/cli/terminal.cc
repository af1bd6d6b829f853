#include "clients/cli/terminal.h"

#include <histedit.h>
#include <locale.h>
#include <sys/stat.h>

#include <cstdio>
#include <utility>

#include "absl/strings/match.h"
#include "base/freer.h"

namespace berth::cli {
namespace {

constexpr int kHistoryLines = 1000;

}  // namespace

struct Terminal::State {
  std::unique_ptr<History, base::Freer<history_end>> history;
  std::unique_ptr<EditLine, base::Freer<el_end>> editor;  // asks the history
  HistEvent event;                                        // what the history answers
  std::string prompt;

  // libedit's callback.
  static char* Prompt(EditLine* editor) {
    State* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return state->prompt.data();
  }
};

Terminal::Terminal(std::string history_file) : state_(std::make_unique<State>()), history_file_(std::move(history_file)) {
  setlocale(LC_CTYPE, "");  // what is typed may be UTF-8
  state_->history.reset(history_init());
  history(state_->history.get(), &state_->event, H_SETSIZE, kHistoryLines);
  if (!history_file_.empty()) history(state_->history.get(), &state_->event, H_LOAD, history_file_.c_str());
  state_->editor.reset(el_init("berth", stdin, stdout, stderr));
  EditLine* const editor = state_->editor.get();
  el_set(editor, EL_CLIENTDATA, state_.get());
  el_set(editor, EL_PROMPT, State::Prompt);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, history, state_->history.get());
  el_source(editor, nullptr);  // the user's ~/.editrc
}

Terminal::~Terminal() {
  if (history_file_.empty()) return;
  history(state_->history.get(), &state_->event, H_SAVE, history_file_.c_str());
  chmod(history_file_.c_str(), S_IRUSR | S_IWUSR);  // what was asked is nobody else's
}

std::optional<std::string> Terminal::ReadLine(const std::string& prompt) {
  state_->prompt = prompt;
  int count = 0;
  const char* const typed = el_gets(state_->editor.get(), &count);
  if (typed == nullptr || count <= 0) return std::nullopt;
  std::string line(typed, static_cast<size_t>(count));
  if (absl::EndsWith(line, "\n")) line.pop_back();
  if (!line.empty()) history(state_->history.get(), &state_->event, H_ENTER, line.c_str());
  return line;
}

}  // namespace berth::cli
