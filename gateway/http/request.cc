#include "gateway/http/request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_fields.h"
#include "gateway/http/response.h"
#include "gateway/http/tool_fields.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

// OpenAI's default for /v1/completions.
constexpr int kDefaultCompletionTokens = 16;
constexpr size_t kMaxPrompts = 128;

void ReadCommon(JsonFields& fields, CompletionRequest& request) {
  v1::GenerationSpec& spec = request.spec;
  ReadModel(fields, spec);
  ReadSampling(fields, *spec.mutable_sampling());
  v1::StopCriteria& stop = *spec.mutable_stop();
  const int least = request.chat ? 1 : 0;
  if (const auto limit = ReadMaxTokens(fields, {"max_tokens", "max_completion_tokens"}, least)) stop.set_max_tokens(*limit);
  ReadStop(fields, stop);
  ReadStopStrings(fields, "stop", stop);
  ReadSession(fields, spec);
  ReadOutput(fields, spec);
  ReadFormat(fields, "response_format", "json_schema", spec);
  PassOver(fields);
  request.stream = fields.Bool("stream").value_or(false);
  request.include_usage = ReadStreamOptions(fields, request.stream);
}

// Only text comes out.
void ReadModalities(JsonFields& fields) {
  for (const std::string& modality : fields.Strings("modalities")) {
    if (modality != "text") fields.Fail("modalities", absl::StrCat("holds \"", modality, "\", only text is supported"));
  }
}

void ReadTextPrompts(JsonFields& fields, CompletionRequest& request) {
  request.more_prompts = ReadPrompts(fields, "prompt", kMaxPrompts);
  if (request.more_prompts.empty()) return;
  *request.spec.mutable_prompt() = std::move(request.more_prompts.front());
  request.more_prompts.erase(request.more_prompts.begin());
}

// The prompt, before the text of every choice, and its log-probabilities before the choice's.
void ReadEcho(JsonFields& fields, CompletionRequest& request) {
  const bool echo = fields.Bool("echo").value_or(false);
  v1::OutputOptions& output = *request.spec.mutable_output();
  output.set_prompt_logprobs(echo && output.has_top_logprobs());
  if (request.spec.stop().max_tokens() == 0 && !output.prompt_logprobs()) {
    fields.Fail("max_tokens", "is 0, want at least 1, or echo and logprobs with it");
  }
  if (!echo) return;
  request.echoes.push_back(request.spec.prompt());
  request.echoes.insert(request.echoes.end(), request.more_prompts.begin(), request.more_prompts.end());
}

// The answer goes between every prompt and this text.
void ReadSuffix(JsonFields& fields, CompletionRequest& request) {
  const std::string suffix = fields.String("suffix").value_or("");
  if (suffix.empty()) return;
  if (request.spec.output().prompt_logprobs()) fields.Fail("suffix", "is not supported together with echo and logprobs");
  const auto fill_in = [&](v1::Prompt& prompt) {
    if (prompt.has_token_ids()) return fields.Fail("suffix", "is not supported for prompts of token ids");
    v1::InfillPrompt infill;
    infill.set_prefix(prompt.text());
    infill.set_suffix(suffix);
    *prompt.mutable_infill() = std::move(infill);
  };
  fill_in(*request.spec.mutable_prompt());
  for (v1::Prompt& prompt : request.more_prompts) fill_in(prompt);
}

}  // namespace

CompletionRequest ReadChatCompletion(JsonFields& fields) {
  CompletionRequest request{.chat = true};
  ReadCommon(fields, request);
  v1::ChatPrompt& chat = *request.spec.mutable_prompt()->mutable_chat();
  ReadChatMessages(fields, "messages", chat);
  ReadTemplateVariables(fields, chat);
  if (const auto value = fields.Bool("add_generation_prompt")) chat.set_add_generation_prompt(*value);
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const std::optional<int32_t> alternatives = fields.Int32("top_logprobs", 0, rpc::kMaxTopLogprobs);
  if (alternatives.has_value() && !logprobs) fields.Fail("top_logprobs", "is allowed only when \"logprobs\" is true");
  if (logprobs) request.spec.mutable_output()->set_top_logprobs(alternatives.value_or(0));
  request.single_tool_call = ReadTools(fields, ToolStyle::kChat, chat);
  ReadModalities(fields);
  // A hint of the answer, to make it faster.
  fields.Object("prediction");
  for (const char* name : {"functions", "function_call", "audio", "web_search_options"}) fields.Refuse(name);
  return request;
}

CompletionRequest ReadTextCompletion(JsonFields& fields) {
  CompletionRequest request;
  request.spec.mutable_stop()->set_max_tokens(kDefaultCompletionTokens);
  ReadCommon(fields, request);
  ReadTextPrompts(fields, request);
  if (const auto value = fields.Int32("logprobs", 0, rpc::kMaxTopLogprobs))
    request.spec.mutable_output()->set_top_logprobs(*value);
  ReadEcho(fields, request);
  ReadSuffix(fields, request);
  const int choices = std::max(request.spec.sampling().choice_count(), 1);
  if (const int best_of = fields.Int32("best_of").value_or(choices); best_of != choices) {
    fields.Fail("best_of", absl::StrCat("is ", best_of, ", only n's ", choices, " is supported"));
  }
  return request;
}

GenerationCall ToCall(CompletionRequest request, int64_t created) {
  ResponseHead head{.chat = request.chat,
                    .include_usage = request.include_usage,
                    .logprobs = request.spec.output().has_top_logprobs(),
                    .choice_count = std::max(request.spec.sampling().choice_count(), 1),
                    .prompt_count = 1 + static_cast<int>(request.more_prompts.size()),
                    .created = created};
  for (v1::Prompt& prompt : request.echoes) head.echoes.push_back(std::move(*prompt.mutable_text()));
  return {.spec = std::move(request.spec),
          .more_prompts = std::move(request.more_prompts),
          .stream = request.stream,
          .single_tool_call = request.single_tool_call,
          .format = std::make_unique<EventFormatter>(std::move(head))};
}

}  // namespace berth::http
