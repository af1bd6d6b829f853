#include "worker/text/builtin_templates.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace berth::text {
namespace {

// What kBody writes around the texts. `begin`: before everything. `turn`: before each question. `system`, `user`, `answer`:
// before and after such a text; an answer begins with answer[0], also the one to come. `inside`: the system prompt stands in
// the first question. `gap`: between answer[0] and an answer that is known.
struct Markers {
  std::string_view name;
  std::string_view sets;
  std::vector<std::string_view> stop_tokens;
};

constexpr char kDefaults[] =
    R"~({% set begin = '' %}{% set turn = '' %}{% set inside = false %}{% set gap = '' %}{% set default = none %})~";

constexpr char kBody[] =
    R"~({% if messages and messages[0]['role'] == 'system' %}{% set prompt = messages[0]['content'] %}{% set turns = messages[1:] %}{% else %}{% set prompt = default %}{% set turns = messages %}{% endif %}{{ begin }}{% if prompt is none %}{% set head = '' %}{% else %}{% set head = system[0] + prompt + system[1] %}{% endif %}{% if not inside %}{{ head }}{% endif %}{% for message in turns %}{% if message['role'] == 'user' %}{{ turn + user[0] }}{% if inside and loop.first %}{{ head }}{% endif %}{{ message['content'] + user[1] }}{% elif message['role'] == 'assistant' %}{{ answer[0] + gap + message['content'] + answer[1] }}{% else %}{{ raise_exception('a message has the role ' + message['role'] + ', want user or assistant, or system at the start') }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ answer[0] }}{% endif %})~";

// ChatGLM2 counts its rounds.
constexpr char kChatGlm2[] =
    R"~({{ '[gMASK]sop' }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[Round ' ~ (loop.index0 // 2 + 1) ~ ']\n\n问：' + message['content'] + '\n\n答：' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + '\n\n' }}{% else %}{{ raise_exception('a message has the role ' + message['role'] + ', want user or assistant') }}{% endif %}{% endfor %})~";

const std::vector<Markers>& AllMarkers() {
  static const auto& markers = *new std::vector<Markers>{
      {"base", R"~({% set system = ['', ''] %}{% set user = ['', ''] %}{% set answer = ['', ''] %})~", {}},
      {"llama2",
       R"~({% set inside = true %}{% set turn = bos_token %}{% set system = ['<<SYS>>\n', '\n<</SYS>>\n\n'] %}{% set user = ['[INST] ', ' [/INST] '] %}{% set answer = ['', eos_token] %}{% set default = 'You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. If you don\'t know the answer to a question, please don\'t share false information.' %})~",
       {"</s>"}},
      {"codellama",
       R"~({% set inside = true %}{% set turn = bos_token %}{% set system = ['<<SYS>>\n', '\n<</SYS>>\n\n'] %}{% set user = ['[INST] ', ' [/INST] '] %}{% set answer = ['', eos_token] %}{% set default = '' %})~",
       {"</s>"}},
      {"llama3",
       R"~({% set begin = bos_token %}{% set system = ['<|start_header_id|>system<|end_header_id|>\n\n', '<|eot_id|>'] %}{% set user = ['<|start_header_id|>user<|end_header_id|>\n\n', '<|eot_id|>'] %}{% set answer = ['<|start_header_id|>assistant<|end_header_id|>\n\n', '<|eot_id|>'] %})~",
       {"<|eot_id|>", "<|end_of_text|>"}},
      {"vicuna",
       R"~({% set begin = bos_token %}{% set system = ['', ' '] %}{% set user = ['USER: ', ' '] %}{% set answer = ['ASSISTANT: ', eos_token] %}{% set default = 'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user\'s questions.' %})~",
       {"</s>"}},
      {"internlm",
       R"~({% set begin = bos_token %}{% set system = ['<|System|>:', '\n'] %}{% set user = ['<|User|>:', '\n'] %}{% set answer = ['<|Bot|>:', '<eoa>\n'] %}{% set default = 'You are an AI assistant whose name is InternLM (书生·浦语).\n- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as English and 中文.\n' %})~",
       {"<eoa>"}},
      {"internlm2",
       R"~({% set begin = bos_token %}{% set system = ['<|im_start|>system\n', '<|im_end|>\n'] %}{% set user = ['<|im_start|>user\n', '<|im_end|>\n'] %}{% set answer = ['<|im_start|>assistant\n', '<|im_end|>\n'] %}{% set default = 'You are an AI assistant whose name is InternLM (书生·浦语).\n- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as English and 中文.\n' %})~",
       {"<|im_end|>", "<|action_end|>"}},
      {"internlm-xcomposer2",
       R"~({% set begin = bos_token %}{% set system = ['[UNUSED_TOKEN_146]system\n', '[UNUSED_TOKEN_145]\n'] %}{% set user = ['[UNUSED_TOKEN_146]user\n', '[UNUSED_TOKEN_145]\n'] %}{% set answer = ['[UNUSED_TOKEN_146]assistant\n', '[UNUSED_TOKEN_145]\n'] %}{% set default = 'You are an AI assistant whose name is InternLM-XComposer (浦语·灵笔).\n- InternLM-XComposer (浦语·灵笔) is a multi-modality conversational language model that is developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n- InternLM-XComposer (浦语·灵笔) can understand and communicate fluently in the language chosen by the user such as English and 中文.\n- InternLM-XComposer (浦语·灵笔) is capable of comprehending and articulating responses effectively based on the provided image.' %})~",
       {"[UNUSED_TOKEN_145]"}},
      {"qwen",
       R"~({% set system = ['<|im_start|>system\n', '<|im_end|>\n'] %}{% set user = ['<|im_start|>user\n', '<|im_end|>\n'] %}{% set answer = ['<|im_start|>assistant\n', '<|im_end|>\n'] %}{% set default = 'You are a helpful assistant.' %})~",
       {"<|im_end|>", "<|endoftext|>"}},
      {"yi",
       R"~({% set system = ['<|im_start|>system\n', '<|im_end|>\n'] %}{% set user = ['<|im_start|>user\n', '<|im_end|>\n'] %}{% set answer = ['<|im_start|>assistant\n', '<|im_end|>\n'] %})~",
       {"<|im_end|>", "<|endoftext|>"}},
      {"baichuan2",
       R"~({% set system = ['', ''] %}{% set user = ['<reserved_106>', ''] %}{% set answer = ['<reserved_107>', ''] %})~",
       {"<reserved_106>"}},
      {"chatglm2", "", {"</s>"}},
      {"chatglm3",
       R"~({% set begin = '[gMASK]sop' %}{% set system = ['<|system|>\n ', ''] %}{% set user = ['<|user|>\n ', ''] %}{% set answer = ['<|assistant|>', ''] %}{% set gap = '\n ' %})~",
       {"</s>", "<|user|>", "<|observation|>"}},
      {"mistral",
       R"~({% set begin = bos_token %}{% set system = ['', ''] %}{% set user = ['[INST] ', ' [/INST]'] %}{% set answer = ['', eos_token] %})~",
       {"</s>"}},
      {"gemma",
       R"~({% set begin = bos_token %}{% set system = ['', ''] %}{% set user = ['<start_of_turn>user\n', '<end_of_turn>\n'] %}{% set answer = ['<start_of_turn>model\n', '<end_of_turn>\n'] %})~",
       {"<end_of_turn>"}},
      {"deepseek",
       R"~({% set begin = bos_token %}{% set system = ['', '\n\n'] %}{% set user = ['User: ', '\n\n'] %}{% set answer = ['Assistant:', eos_token] %}{% set gap = ' ' %})~",
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-coder",
       R"~({% set begin = bos_token %}{% set system = ['', ''] %}{% set user = ['### Instruction:\n', '\n'] %}{% set answer = ['### Response:\n', '\n<|EOT|>\n'] %})~",
       {"<|EOT|>"}},
      {"solar",
       R"~({% set begin = bos_token %}{% set system = ['### System:\n', '\n\n'] %}{% set user = ['### User:\n', '\n\n'] %}{% set answer = ['### Assistant:\n', '\n\n'] %})~",
       {"</s>"}},
  };
  return markers;
}

// By family, and by a special token where one family's models differ ("": whatever there is).
struct FamilyTemplate {
  std::string_view family;
  std::string_view token;
  std::string_view name;
};
constexpr FamilyTemplate kFamilies[] = {
    {"llama", "<|eot_id|>", "llama3"},
    {"llama", "<|im_start|>", "yi"},
    {"internlm", "<eoa>", "internlm"},
    {"internlm2", "<|im_end|>", "internlm2"},
    {"internlm2", "[UNUSED_TOKEN_145]", "internlm-xcomposer2"},
    {"qwen", "<|im_start|>", "qwen"},
    {"qwen2", "<|im_start|>", "qwen"},
    {"baichuan", "<reserved_106>", "baichuan2"},
    {"chatglm", "<|user|>", "chatglm3"},
    {"chatglm", "", "chatglm2"},
    {"gemma", "<end_of_turn>", "gemma"},
};

}  // namespace

std::vector<std::string_view> BuiltinTemplateNames() {
  std::vector<std::string_view> names;
  for (const Markers& markers : AllMarkers()) names.push_back(markers.name);
  return names;
}

BuiltinTemplate FindBuiltinTemplate(std::string_view name) {
  const auto found =
      std::find_if(AllMarkers().begin(), AllMarkers().end(), [&](const Markers& markers) { return markers.name == name; });
  if (found == AllMarkers().end()) return {};
  if (found->sets.empty()) return {kChatGlm2, found->stop_tokens};
  return {absl::StrCat(kDefaults, std::string(found->sets), kBody), found->stop_tokens};
}

std::string_view BuiltinTemplateOf(std::string_view family, absl::FunctionRef<bool(std::string_view token)> has_token) {
  for (const FamilyTemplate& entry : kFamilies) {
    if (entry.family == family && (entry.token.empty() || has_token(entry.token))) return entry.name;
  }
  return {};
}

}  // namespace berth::text
