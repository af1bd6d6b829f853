#include "gateway/http/generation_fields.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gateway/http/json_text.h"
#include "google/protobuf/util/json_util.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

void ReadLogitBias(JsonFields& fields, v1::SamplingParams& sampling) {
  const json* biases = fields.Object("logit_bias");
  if (biases == nullptr) return;
  JsonFields entries(*biases, "logit_bias");
  for (const auto& [token, bias] : biases->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(token, &id)) entries.Fail(token, "is not a token id");
    if (const auto value = entries.Float(token, bias)) (*sampling.mutable_logit_bias())[id] = *value;
  }
  fields.Take(entries);
}

// A field that goes by several names, which must not contradict each other.
std::optional<int32_t> ReadAlias(JsonFields& fields, std::initializer_list<const char*> names, int32_t least) {
  std::optional<int32_t> found;
  const char* found_name = nullptr;
  for (const char* name : names) {
    const std::optional<int32_t> value = fields.Int32(name, least);
    if (!value.has_value()) continue;
    if (found.value_or(*value) != *value) fields.Fail(name, absl::StrCat("is ", *value, ", and ", found_name, " is ", *found));
    found = value;
    found_name = name;
  }
  return found;
}

void ReadToolCalls(JsonFields& fields, v1::ChatMessage& message) {
  const json* calls = fields.Array("tool_calls");
  if (calls == nullptr) return;
  fields.EachObject("tool_calls", *calls, [&message](JsonFields& entry) {
    v1::ToolCall& call = *message.add_tool_calls();
    call.set_id(entry.String("id").value_or(""));
    if (const json* function = entry.Object("function")) {
      JsonFields inner(*function, entry.PathOf("function"));
      call.set_name(inner.String("name").value_or(""));
      call.set_arguments(inner.String("arguments").value_or(""));
      entry.Take(inner);
    }
  });
}

// One of several prompts: a string, or an array of token ids.
void ReadPromptEntry(JsonFields& fields, const std::string& name, const json& value, v1::Prompt& prompt) {
  if (value.is_string()) return prompt.set_text(value.get<std::string>());
  if (!value.is_array()) return fields.WrongType(name, "a string or an array of token ids", value);
  ReadTokenIds(fields, name, value, prompt);
}

}  // namespace

void ReadModel(JsonFields& fields, v1::GenerationSpec& spec) {
  if (const auto value = fields.String("model")) return spec.set_model(*value);
  fields.Fail("model", "is required");
}

void ReadSampling(JsonFields& fields, v1::SamplingParams& sampling, int most_choices) {
  if (const auto value = fields.Float("temperature")) sampling.set_temperature(*value);
  if (const auto value = fields.Float("top_p")) sampling.set_top_p(*value);
  // Off is 0 here and -1 with other servers.
  if (const auto value = fields.Int32("top_k")) sampling.set_top_k(*value == -1 ? 0 : *value);
  if (const auto value = fields.Float("min_p")) sampling.set_min_p(*value);
  if (const auto value = fields.Float("repetition_penalty")) sampling.set_repetition_penalty(*value);
  if (const auto value = fields.Float("presence_penalty")) sampling.set_presence_penalty(*value);
  if (const auto value = fields.Float("frequency_penalty")) sampling.set_frequency_penalty(*value);
  if (const auto value = fields.Int64("seed")) sampling.set_seed(static_cast<uint64_t>(*value));
  if (const auto value = fields.Int32("n", 1, most_choices)) sampling.set_choice_count(*value);
  ReadLogitBias(fields, sampling);
  // Other servers' names for what constrains an answer, which must not come out unconstrained.
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_whitespace_pattern",
                           "structured_outputs", "structural_tag", "json_schema", "regex", "ebnf"}) {
    fields.Refuse(name, "is not supported, but response_format of /v1/chat/completions and /v1/completions is");
  }
}

std::optional<int32_t> ReadMaxTokens(JsonFields& fields, std::initializer_list<const char*> names, int32_t least) {
  return ReadAlias(fields, names, least);
}

void ReadStop(JsonFields& fields, v1::StopCriteria& stop) {
  if (const auto value = ReadAlias(fields, {"min_tokens", "min_new_tokens"}, 0)) stop.set_min_tokens(*value);
  for (int32_t id : fields.Int32s("stop_token_ids")) stop.add_stop_token_ids(id);
  for (std::string& text : fields.Strings("bad_words")) stop.add_bad_words(std::move(text));
  if (const auto value = fields.Bool("ignore_eos")) stop.set_ignore_eos(*value);
  if (const auto value = fields.Bool("include_stop_str_in_output")) stop.set_include_stop_string(*value);
}

void ReadStopStrings(JsonFields& fields, const char* name, v1::StopCriteria& stop) {
  for (std::string& text : fields.Strings(name)) stop.add_stop_strings(std::move(text));
}

// A string, or a number as LMDeploy's clients send it; -1 there means none.
void ReadSession(JsonFields& fields, v1::GenerationSpec& spec) {
  const json* value = fields.Find("session_id");
  if (value == nullptr) return;
  if (value->is_string()) {
    const std::string& id = value->get_ref<const std::string&>();
    if (id.size() <= rpc::kMaxNameBytes) return spec.set_session_id(id);
    return fields.Fail("session_id", absl::StrCat("has ", id.size(), " bytes, want at most ", rpc::kMaxNameBytes));
  }
  const std::optional<int64_t> number = fields.Int64("session_id");
  if (!number.has_value() || *number == -1) return;
  if (*number < 0) return fields.Fail("session_id", absl::StrCat("is ", *number, ", want at least 0, or -1 for none"));
  spec.set_session_id(absl::StrCat(*number));
}

void ReadOutput(JsonFields& fields, v1::GenerationSpec& spec) {
  if (const auto value = fields.Bool("skip_special_tokens")) spec.mutable_output()->set_skip_special_tokens(*value);
  if (const auto value = fields.Int32("priority")) spec.set_priority(*value);
}

bool ReadStreamOptions(JsonFields& fields, bool stream) {
  const json* options = fields.Object("stream_options");
  if (options == nullptr) return false;
  if (!stream) fields.Fail("stream_options", "is allowed only when \"stream\" is true");
  JsonFields inner(*options, "stream_options");
  inner.Bool("include_obfuscation");
  const bool usage = inner.Bool("include_usage").value_or(false);
  fields.Take(inner);
  return usage;
}

void ReadTemplateVariables(JsonFields& fields, v1::ChatPrompt& chat) {
  constexpr char kName[] = "chat_template_kwargs", kEffort[] = "reasoning_effort";
  const json* value = fields.Object(kName);
  if (value != nullptr) {
    google::protobuf::Struct& variables = *chat.mutable_template_variables();
    if (!google::protobuf::util::JsonStringToMessage(Dump(*value), &variables).ok()) fields.Fail(kName, "cannot be read");
  }
  if (const auto effort = fields.String(kEffort)) {
    (*chat.mutable_template_variables()->mutable_fields())[kEffort].set_string_value(*effort);
  }
}

void ReadFormat(JsonFields& fields, const char* name, const char* schema_holder, v1::GenerationSpec& spec) {
  const json* format = fields.Object(name);
  if (format == nullptr) return;
  JsonFields inner(*format, fields.PathOf(name));
  const std::string type = inner.String("type").value_or("");
  if (type == "json_object") {
    spec.mutable_constraint()->set_json_object(true);
  } else if (type == "json_schema") {
    const json* holder = schema_holder == nullptr ? format : inner.Object(schema_holder);
    const bool usable = holder != nullptr && holder->contains("schema");
    if (usable) spec.mutable_constraint()->set_json_schema((*holder)["schema"].dump());
    if (!usable) inner.Fail(schema_holder == nullptr ? "schema" : schema_holder, "has no schema");
  } else if (type == "regex" || type == "regex_schema" || type == "ebnf") {
    const std::optional<std::string> source = inner.String(type.c_str());
    if (!source.has_value()) inner.Fail(type, "is missing");
    (type == "ebnf" ? spec.mutable_constraint()->mutable_ebnf() : spec.mutable_constraint()->mutable_regex())
        ->assign(source.value_or(""));
  } else if (type != "text") {
    inner.Fail("type", absl::StrCat("is \"", type, "\", want text, json_object, json_schema, regex or ebnf"));
  }
  fields.Take(inner);
}

void AppendContent(JsonFields& fields, const char* name, const std::vector<std::string>& types, std::string* text) {
  const json* content = fields.Find(name);
  if (content == nullptr) return;
  if (content->is_string()) {
    text->append(content->get<std::string>());
    return;
  }
  if (!content->is_array()) return fields.WrongType(name, "a string or an array of parts", *content);
  fields.EachObject(name, *content, [&](JsonFields& part) {
    const std::string type = part.String("type").value_or("");
    if (std::find(types.begin(), types.end(), type) == types.end()) {
      part.Fail("type", absl::StrCat("is \"", type, "\", only ", absl::StrJoin(types, ", "), " is supported"));
    }
    text->append(part.String("text").value_or(""));
  });
}

v1::ChatMessage& AddMessage(v1::ChatPrompt& chat, const char* role) {
  v1::ChatMessage& message = *chat.add_messages();
  message.set_role(role);
  return message;
}

void ReadChatMessages(JsonFields& fields, const char* name, v1::ChatPrompt& chat) {
  const json* messages = fields.Array(name);
  if (messages == nullptr || messages->empty()) return fields.Fail(name, "must be a non-empty array");
  fields.EachObject(name, *messages, [&chat](JsonFields& entry) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(entry.String("role").value_or(""));
    if (message.role().empty()) entry.Fail("role", "is required");
    // A newer name of the same, which no template knows.
    if (message.role() == "developer") message.set_role("system");
    message.set_name(entry.String("name").value_or(""));
    message.set_tool_call_id(entry.String("tool_call_id").value_or(""));
    AppendContent(entry, "content", {"text"}, message.mutable_content());
    ReadToolCalls(entry, message);
  });
}

void ReadTokenIds(JsonFields& fields, const std::string& name, const json& ids, v1::Prompt& prompt) {
  if (ids.empty()) return fields.Fail(name, "is empty");
  const json wrapped = {{name, ids}};
  JsonFields inner(wrapped);
  for (int32_t id : inner.Int32s(name.c_str())) prompt.mutable_token_ids()->add_ids(id);
  fields.Take(inner);
}

std::vector<v1::Prompt> ReadPrompts(JsonFields& fields, const char* name, size_t most) {
  const json* value = fields.Find(name);
  const bool several = value != nullptr && value->is_array() && !value->empty() && !value->front().is_number();
  std::vector<v1::Prompt> prompts(several ? value->size() : 1);
  if (value == nullptr) {
    fields.Fail(name, "is required");
  } else if (!value->is_string() && !value->is_array()) {
    fields.WrongType(name, "a string, an array of token ids, or an array of such", *value);
  } else if (prompts.size() > most) {
    fields.Fail(name, absl::StrCat("holds ", prompts.size(), " prompts, at most ", most, " are allowed"));
  } else if (several) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      ReadPromptEntry(fields, absl::StrCat(name, "[", i, "]"), (*value)[i], prompts[i]);
    }
  } else {
    ReadPromptEntry(fields, name, *value, prompts.front());
  }
  return fields.status().ok() ? std::move(prompts) : std::vector<v1::Prompt>();
}

void PassOver(JsonFields& fields) {
  for (const char* name : {"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}) {
    fields.String(name);
  }
  fields.Object("metadata");
  fields.Bool("store");
}

}  // namespace berth::http
