#include "worker/text/jinja/template.h"

#include "base/status.h"
#include "worker/text/jinja/interpreter.h"
#include "worker/text/jinja/parser.h"

namespace berth::text::jinja {

absl::StatusOr<Template> Template::FromSource(std::string_view source) {
  BERTH_ASSIGN_OR_RETURN(Body body, Parse(source));
  return Template(std::move(body));
}

absl::StatusOr<std::string> Template::Render(const std::vector<std::pair<std::string, Value>>& variables,
                                             absl::Time clock) const {
  Interpreter interpreter(clock);
  for (const auto& [name, value] : variables) interpreter.Define(name, value);
  return interpreter.Run(body_);
}

}  // namespace berth::text::jinja
