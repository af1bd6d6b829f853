#include "worker/service/sim_model.h"

#include "base/hash.h"
#include "base/status.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::service {

absl::StatusOr<ServedModel> MakeSimModel(const std::string& name, int context_length) {
  constexpr char kTemplate[] =
      "{% for message in messages %}"
      "{% if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role ' + message.role) }}{% "
      "endif %}"
      "<msg>{{ message.role }}\n{{ message.content }}<eos>{% endfor %}"
      "{% if add_generation_prompt %}<msg>assistant\n{% endif %}";
  ServedModel model{.name = name,
                    .family = "simulated",
                    .eos_ids = {text::SimVocabulary::kEos},
                    .context_length = context_length,
                    .fingerprint = base::Hash64(name, static_cast<uint64_t>(context_length))};
  BERTH_ASSIGN_OR_RETURN(model.tokenizer, text::MakeTokenizer(text::SimTokenizerData()));
  BERTH_ASSIGN_OR_RETURN(model.chat_template, text::ParseChatTemplate(kTemplate, "", "<eos>"));
  return model;
}

}  // namespace berth::service
