#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "gateway/http/json_fields.h"
#include "proto/berth/v1/generation.pb.h"
#include "proto/rpc/limits.h"

namespace berth::http {

// Fields that several APIs spell alike. Types are checked here, ranges where the values are used, but for those whose names
// there are others.

void ReadModel(JsonFields& fields, v1::GenerationSpec& spec);
// `most_choices`: of n.
void ReadSampling(JsonFields& fields, v1::SamplingParams& sampling, int most_choices = rpc::kMaxChoices);
// Of the field that goes by these names, at least `least`. Null: absent.
std::optional<int32_t> ReadMaxTokens(JsonFields& fields, std::initializer_list<const char*> names, int32_t least = 1);
// min_tokens, stop_token_ids, bad_words, ignore_eos and the like; not the limit of tokens, nor stop strings.
void ReadStop(JsonFields& fields, v1::StopCriteria& stop);
// `name` of the field with the stop strings.
void ReadStopStrings(JsonFields& fields, const char* name, v1::StopCriteria& stop);
void ReadSession(JsonFields& fields, v1::GenerationSpec& spec);
// skip_special_tokens and priority.
void ReadOutput(JsonFields& fields, v1::GenerationSpec& spec);
// stream_options, which only what streams has. True: a last event is to tell the usage.
bool ReadStreamOptions(JsonFields& fields, bool stream);
// chat_template_kwargs and reasoning_effort.
void ReadTemplateVariables(JsonFields& fields, v1::ChatPrompt& chat);
// {"type": "text" | "json_object" | "json_schema"}; `schema_holder` is the field that holds {"schema"}, or null: the format
// itself does.
void ReadFormat(JsonFields& fields, const char* name, const char* schema_holder, v1::GenerationSpec& spec);
// One more, at the end, still empty.
v1::ChatMessage& AddMessage(v1::ChatPrompt& chat, const char* role);
// An array of messages as chat completions have them.
void ReadChatMessages(JsonFields& fields, const char* name, v1::ChatPrompt& chat);
// A string, or an array of parts whose type is among `types` and whose text is appended.
void AppendContent(JsonFields& fields, const char* name, const std::vector<std::string>& types, std::string* text);
void ReadTokenIds(JsonFields& fields, const std::string& name, const nlohmann::ordered_json& ids, v1::Prompt& prompt);
// Texts, or arrays of token ids, of a field that has one of them or an array of them. Empty when that is wrong.
std::vector<v1::Prompt> ReadPrompts(JsonFields& fields, const char* name, size_t most);

// What changes no answer: types are checked.
void PassOver(JsonFields& fields);

}  // namespace berth::http
