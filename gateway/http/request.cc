#include "gateway/http/request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/json_fields.h"
#include "google/protobuf/util/json_util.h"

namespace berth::http {
namespace {

using nlohmann::json;

// OpenAI's default for /v1/completions.
constexpr int kDefaultCompletionTokens = 16;
constexpr size_t kMaxPrompts = 128;

void Refuse(JsonFields& fields, const char* name) {
  if (fields.Find(name) != nullptr) fields.Fail(name, "is not supported");
}

void ReadTemplateVariables(JsonFields& fields, v1::ChatPrompt& chat) {
  constexpr char kName[] = "chat_template_kwargs";
  const json* value = fields.Object(kName);
  if (value == nullptr) return;
  google::protobuf::Struct& variables = *chat.mutable_template_variables();
  if (!google::protobuf::util::JsonStringToMessage(value->dump(), &variables).ok()) fields.Fail(kName, "cannot be read");
}

void ReadLogitBias(JsonFields& fields, v1::SamplingParams& sampling) {
  const json* biases = fields.Object("logit_bias");
  if (biases == nullptr) return;
  JsonFields entries(*biases, "logit_bias");
  for (const auto& [token, bias] : biases->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(token, &id)) entries.Fail(token, "is not a token id");
    if (const auto value = entries.Float(token.c_str())) (*sampling.mutable_logit_bias())[id] = *value;
  }
  fields.Take(entries);
}

void ReadSampling(JsonFields& fields, v1::SamplingParams& sampling) {
  if (const auto value = fields.Float("temperature")) sampling.set_temperature(*value);
  if (const auto value = fields.Float("top_p")) sampling.set_top_p(*value);
  if (const auto value = fields.Int32("top_k")) sampling.set_top_k(*value);
  if (const auto value = fields.Float("min_p")) sampling.set_min_p(*value);
  if (const auto value = fields.Float("repetition_penalty")) sampling.set_repetition_penalty(*value);
  if (const auto value = fields.Float("presence_penalty")) sampling.set_presence_penalty(*value);
  if (const auto value = fields.Float("frequency_penalty")) sampling.set_frequency_penalty(*value);
  if (const auto value = fields.Int64("seed")) sampling.set_seed(static_cast<uint64_t>(*value));
  if (const auto value = fields.Int32("n")) sampling.set_choice_count(*value);
  ReadLogitBias(fields, sampling);
}

void ReadStop(JsonFields& fields, v1::StopCriteria& stop) {
  for (const char* name : {"max_tokens", "max_completion_tokens"}) {
    if (const auto value = fields.Int32(name)) stop.set_max_tokens(*value);
  }
  for (const char* name : {"min_new_tokens", "min_tokens"}) {
    if (const auto value = fields.Int32(name)) stop.set_min_tokens(*value);
  }
  for (std::string& text : fields.Strings("stop")) stop.add_stop_strings(std::move(text));
  for (int32_t id : fields.Int32s("stop_token_ids")) stop.add_stop_token_ids(id);
  for (std::string& text : fields.Strings("bad_words")) stop.add_bad_words(std::move(text));
  if (const auto value = fields.Bool("ignore_eos")) stop.set_ignore_eos(*value);
  if (const auto value = fields.Bool("include_stop_str_in_output")) stop.set_include_stop_string(*value);
}

// A string, or a number as LMDeploy's clients send it; -1 there means none.
void ReadSession(JsonFields& fields, v1::GenerationSpec& spec) {
  const json* value = fields.Find("session_id");
  if (value == nullptr) return;
  if (value->is_string()) return spec.set_session_id(value->get<std::string>());
  const std::optional<int64_t> number = fields.Int64("session_id");
  if (number.has_value() && *number >= 0) spec.set_session_id(absl::StrCat(*number));
}

void ReadResponseFormat(JsonFields& fields, v1::GenerationSpec& spec) {
  const json* format = fields.Object("response_format");
  if (format == nullptr) return;
  JsonFields inner(*format, "response_format");
  const std::string type = inner.String("type").value_or("");
  if (type == "json_object") {
    spec.mutable_constraint()->set_json_object(true);
  } else if (type == "json_schema") {
    const json* schema = inner.Object("json_schema");
    const bool usable = schema != nullptr && schema->contains("schema");
    if (usable) spec.mutable_constraint()->set_json_schema((*schema)["schema"].dump());
    if (!usable) inner.Fail("json_schema", "has no schema");
  } else if (type != "text") {
    inner.Fail("type", absl::StrCat("is \"", type, "\", want text, json_object or json_schema"));
  }
  fields.Take(inner);
}

void ReadCommon(JsonFields& fields, CompletionRequest& request) {
  v1::GenerationSpec& spec = request.spec;
  if (const auto value = fields.String("model")) {
    spec.set_model(*value);
  } else if (fields.status().ok()) {
    fields.Fail("model", "is required");
  }
  ReadSampling(fields, *spec.mutable_sampling());
  ReadStop(fields, *spec.mutable_stop());
  ReadSession(fields, spec);
  ReadResponseFormat(fields, spec);
  if (const auto value = fields.Bool("skip_special_tokens")) spec.mutable_output()->set_skip_special_tokens(*value);
  if (const auto value = fields.Int32("priority")) spec.set_priority(*value);
  request.stream = fields.Bool("stream").value_or(false);
  if (const json* options = fields.Object("stream_options")) {
    JsonFields inner(*options, "stream_options");
    request.include_usage = inner.Bool("include_usage").value_or(false);
    if (!request.stream) inner.Fail("include_usage", "is allowed only when \"stream\" is true");
    fields.Take(inner);
  }
}

// Text, null, or an array of parts of type text.
void ReadContent(JsonFields& fields, v1::ChatMessage& message) {
  const json* content = fields.Find("content");
  if (content == nullptr) return;
  if (content->is_string()) return message.set_content(content->get<std::string>());
  if (!content->is_array()) return fields.WrongType("content", "a string or an array of parts", *content);
  for (size_t i = 0; i < content->size(); ++i) {
    const std::string path = absl::StrCat("content[", i, "]");
    if (!(*content)[i].is_object()) return fields.WrongType(path, "an object", (*content)[i]);
    JsonFields part((*content)[i], fields.PathOf(path));
    const std::string type = part.String("type").value_or("");
    if (type != "text") part.Fail("type", absl::StrCat("is \"", type, "\", only text is supported"));
    message.mutable_content()->append(part.String("text").value_or(""));
    fields.Take(part);
  }
}

void ReadToolCalls(JsonFields& fields, v1::ChatMessage& message) {
  const json* calls = fields.Array("tool_calls");
  for (size_t i = 0; calls != nullptr && i < calls->size(); ++i) {
    const std::string path = absl::StrCat("tool_calls[", i, "]");
    if (!(*calls)[i].is_object()) return fields.WrongType(path, "an object", (*calls)[i]);
    JsonFields entry((*calls)[i], fields.PathOf(path));
    v1::ToolCall& call = *message.add_tool_calls();
    call.set_id(entry.String("id").value_or(""));
    if (const json* function = entry.Object("function")) {
      JsonFields inner(*function, entry.PathOf("function"));
      call.set_name(inner.String("name").value_or(""));
      call.set_arguments(inner.String("arguments").value_or(""));
      entry.Take(inner);
    }
    fields.Take(entry);
  }
}

void ReadMessages(JsonFields& fields, v1::ChatPrompt& chat) {
  const json* messages = fields.Array("messages");
  if (messages == nullptr || messages->empty()) return fields.Fail("messages", "must be a non-empty array");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string path = absl::StrCat("messages[", i, "]");
    if (!(*messages)[i].is_object()) return fields.WrongType(path, "an object", (*messages)[i]);
    JsonFields entry((*messages)[i], path);
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(entry.String("role").value_or(""));
    if (message.role().empty()) entry.Fail("role", "is required");
    message.set_name(entry.String("name").value_or(""));
    message.set_tool_call_id(entry.String("tool_call_id").value_or(""));
    ReadContent(entry, message);
    ReadToolCalls(entry, message);
    fields.Take(entry);
  }
}

void ReadTokenIds(JsonFields& fields, const std::string& name, const json& ids, v1::Prompt& prompt) {
  if (ids.empty()) return fields.Fail(name, "is empty");
  const json wrapped = {{name, ids}};
  JsonFields inner(wrapped);
  for (int32_t id : inner.Int32s(name.c_str())) prompt.mutable_token_ids()->add_ids(id);
  fields.Take(inner);
}

// One of several prompts: a string, or an array of token ids.
void ReadPromptEntry(JsonFields& fields, size_t index, const json& value, v1::Prompt& prompt) {
  const std::string name = absl::StrCat("prompt[", index, "]");
  if (value.is_string()) return prompt.set_text(value.get<std::string>());
  if (!value.is_array()) return fields.WrongType(name, "a string or an array of token ids", value);
  ReadTokenIds(fields, name, value, prompt);
}

void ReadTextPrompts(JsonFields& fields, CompletionRequest& request) {
  const json* value = fields.Find("prompt");
  v1::Prompt& first = *request.spec.mutable_prompt();
  if (value == nullptr) return fields.Fail("prompt", "is required");
  if (value->is_string()) return first.set_text(value->get<std::string>());
  if (!value->is_array()) return fields.WrongType("prompt", "a string, an array of token ids, or an array of such", *value);
  if (value->empty() || value->front().is_number()) return ReadTokenIds(fields, "prompt", *value, first);
  if (value->size() > kMaxPrompts) {
    return fields.Fail("prompt", absl::StrCat("holds ", value->size(), " prompts, at most ", kMaxPrompts, " are allowed"));
  }
  request.more_prompts.resize(value->size() - 1);
  for (size_t i = 0; i < value->size(); ++i) {
    ReadPromptEntry(fields, i, (*value)[i], i == 0 ? first : request.more_prompts[i - 1]);
  }
}

}  // namespace

absl::StatusOr<CompletionRequest> ParseChatCompletion(std::string_view body) {
  absl::StatusOr<json> object = ParseObject(body);
  if (!object.ok()) return object.status();
  JsonFields fields(*object);
  CompletionRequest request{.chat = true};
  ReadCommon(fields, request);
  v1::ChatPrompt& chat = *request.spec.mutable_prompt()->mutable_chat();
  ReadMessages(fields, chat);
  ReadTemplateVariables(fields, chat);
  if (const auto value = fields.Bool("add_generation_prompt")) chat.set_add_generation_prompt(*value);
  const bool logprobs = fields.Bool("logprobs").value_or(false);
  const std::optional<int32_t> alternatives = fields.Int32("top_logprobs");
  if (alternatives.has_value() && !logprobs) fields.Fail("top_logprobs", "is allowed only when \"logprobs\" is true");
  if (logprobs) request.spec.mutable_output()->set_top_logprobs(alternatives.value_or(0));
  for (const char* name : {"tools", "functions"}) {
    const json* tools = fields.Array(name);
    if (tools != nullptr && !tools->empty()) fields.Fail(name, "is not supported yet");
  }
  if (!fields.status().ok()) return fields.status();
  return request;
}

absl::StatusOr<CompletionRequest> ParseTextCompletion(std::string_view body) {
  absl::StatusOr<json> object = ParseObject(body);
  if (!object.ok()) return object.status();
  JsonFields fields(*object);
  CompletionRequest request;
  request.spec.mutable_stop()->set_max_tokens(kDefaultCompletionTokens);
  ReadCommon(fields, request);
  ReadTextPrompts(fields, request);
  if (const auto value = fields.Int32("logprobs")) request.spec.mutable_output()->set_top_logprobs(*value);
  if (fields.Bool("echo").value_or(false)) fields.Fail("echo", "is not supported");
  Refuse(fields, "suffix");
  const int choices = std::max(request.spec.sampling().choice_count(), 1);
  if (fields.Int32("best_of").value_or(choices) != choices) fields.Fail("best_of", "is not supported unless it equals n");
  if (!fields.status().ok()) return fields.status();
  return request;
}

}  // namespace berth::http
