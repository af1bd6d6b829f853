#include "worker/service/sim_model.h"

#include "base/hash.h"
#include "base/status.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::service {

absl::StatusOr<ServedModel> MakeSimModel(const std::string& name, int context_length) {
  constexpr char kTemplate[] =
      "{% if tools %}<msg>tools\n{{ tools | tojson }}<eos>{% endif %}"
      "{% for message in messages %}"
      "{% if message.role not in ['system', 'user', 'assistant', 'tool'] %}"
      "{{ raise_exception('unknown role ' + message.role) }}{% endif %}"
      "<msg>{{ message.role }}\n{{ message.content }}"
      "{% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<eos>{% endfor %}"
      "{% if add_generation_prompt %}<msg>assistant\n{% endif %}";
  ServedModel model{.name = name,
                    .family = "simulated",
                    .output_format = {.tools = text::ToolFormat::kHermes, .reasoning = true},
                    .eos_ids = {text::SimVocabulary::kEos},
                    .context_length = context_length,
                    .fingerprint = base::Hash64(name, static_cast<uint64_t>(context_length))};
  BERTH_ASSIGN_OR_RETURN(model.tokenizer, text::MakeTokenizer(text::SimTokenizerData()));
  BERTH_ASSIGN_OR_RETURN(model.chat_template, text::ParseChatTemplate(kTemplate, "", "<eos>"));
  model.grammars = std::make_unique<GrammarStore>(*model.tokenizer);
  return model;
}

}  // namespace berth::service
