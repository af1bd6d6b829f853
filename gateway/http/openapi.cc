#include "gateway/http/openapi.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

struct Operation {
  const char* method;
  const char* path;
  const char* summary;
  // "name:type", with "!" behind what is required, separated by blanks; "" when there is no body.
  const char* fields;
};

#define BERTH_SAMPLING                                                                                            \
  " temperature:number top_p:number top_k:integer min_p:number repetition_penalty:number presence_penalty:number" \
  " frequency_penalty:number seed:integer n:integer logit_bias:object"
#define BERTH_STOP                                                                                    \
  " min_tokens:integer min_new_tokens:integer stop_token_ids:array bad_words:any ignore_eos:boolean " \
  "include_stop_str_in_output:boolean"
#define BERTH_PASSED_OVER                                                                                            \
  " user:string service_tier:string safety_identifier:string prompt_cache_key:string prompt_cache_retention:string " \
  "metadata:object"                                                                                                  \
  " store:boolean"
#define BERTH_COMPLETION                                                                                               \
  "model:string! max_tokens:integer max_completion_tokens:integer stop:any session_id:any skip_special_tokens:boolean" \
  " priority:integer response_format:object stream:boolean stream_options:object" BERTH_SAMPLING BERTH_STOP BERTH_PASSED_OVER

constexpr Operation kOperations[] = {
    {"get", "/health", "Whether requests are taken: 503 while no worker can serve one.", ""},
    {"get", "/openapi.json", "This document.", ""},
    {"get", "/docs", "This document as a page.", ""},
    {"get", "/docs/style.css", "The page's style.", ""},
    {"get", "/v1/models", "The models that are served.", ""},
    {"get", "/v1/models/{model}", "One model.", ""},
    {"post", "/v1/chat/completions", "An answer to a conversation, as OpenAI's API has it.",
     BERTH_COMPLETION
     " messages:array! chat_template_kwargs:object reasoning_effort:string add_generation_prompt:boolean"
     " logprobs:boolean top_logprobs:integer tools:array tool_choice:any parallel_tool_calls:boolean modalities:any"
     " prediction:object"},
    {"post", "/v1/completions", "Text that goes on from a prompt, as OpenAI's API has it.",
     BERTH_COMPLETION " prompt:any! logprobs:integer suffix:string echo:boolean best_of:integer"},
    {"post", "/v1/responses", "An answer of items, as OpenAI's Responses API has it; nothing is kept.",
     "model:string! input:any! instructions:string tools:array tool_choice:any parallel_tool_calls:boolean "
     "max_output_tokens:integer"
     " text:object reasoning:object session_id:any background:boolean truncation:string include:array stream:boolean"
     " stream_options:object" BERTH_SAMPLING BERTH_PASSED_OVER},
    {"post", "/v1/messages", "An answer of content blocks, as Anthropic's API has it.",
     "model:string! messages:array! max_tokens:integer! system:any tools:array tool_choice:object parallel_tool_calls:boolean"
     " thinking:object stop_sequences:any session_id:any stream:boolean" BERTH_SAMPLING BERTH_PASSED_OVER},
    {"post", "/v1/messages/count_tokens", "How many tokens a message's prompt has.",
     "model:string! messages:array! system:any tools:array tool_choice:object parallel_tool_calls:boolean thinking:object"},
    {"post", "/v1/chat/interactive", "A turn of a session that the server keeps, as LMDeploy's API has it.",
     "model:string prompt:any! session_id:any interactive_mode:boolean request_output_len:integer cancel:boolean stop:any"
     " skip_special_tokens:boolean priority:integer stream:boolean" BERTH_SAMPLING BERTH_STOP},
    {"post", "/v1/sessions/fork", "A branch of a session, on the worker that has it in its cache.",
     "model:string session_id:any! position:integer"},
    {"post", "/generate", "Token ids in and out, as LMDeploy's API has it.",
     "model:string prompt:string input_ids:array session_id:any max_tokens:integer stop:any skip_special_tokens:boolean"
     " priority:integer return_logprob:boolean stream:boolean" BERTH_SAMPLING BERTH_STOP},
    {"post", "/v1/encode", "The token ids of one text or several, as LMDeploy's API has it.",
     "model:string input:any! do_preprocess:boolean add_bos:boolean"},
    {"post", "/v1/tokenize", "The token ids of a text or of a conversation.",
     "model:string prompt:string messages:array tools:array tool_choice:any parallel_tool_calls:boolean "
     "chat_template_kwargs:object"
     " reasoning_effort:string add_generation_prompt:boolean"},
    {"post", "/v1/detokenize", "The text of token ids.", "model:string tokens:array! skip_special_tokens:boolean"},
    {"post", "/v1/embeddings", "Texts as vectors of length 1, as OpenAI's API has it.",
     "model:string! input:any! encoding_format:string" BERTH_PASSED_OVER},
};

#undef BERTH_SAMPLING
#undef BERTH_STOP
#undef BERTH_PASSED_OVER
#undef BERTH_COMPLETION

json SchemaOf(const char* fields) {
  json properties = json::object(), required = json::array();
  for (absl::string_view field : absl::StrSplit(fields, ' ', absl::SkipEmpty())) {
    const bool needed = absl::ConsumeSuffix(&field, "!");
    const std::vector<std::string> parts = absl::StrSplit(field, ':');
    json schema = json::object();
    if (parts[1] != "any") schema["type"] = parts[1];
    if (parts[1] == "array") schema["items"] = json::object();
    properties[parts[0]] = std::move(schema);
    if (needed) required.push_back(parts[0]);
  }
  json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

json Describe(const Operation& operation) {
  json entry = {{"summary", operation.summary},
                {"responses",
                 {{"200", {{"description", "The answer."}}},
                  {"default",
                   {{"description", "An error."},
                    {"content", {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}}}}}};
  if (*operation.fields != '\0') {
    entry["requestBody"] = {{"required", true}, {"content", {{"application/json", {{"schema", SchemaOf(operation.fields)}}}}}};
  }
  if (std::string_view(operation.path).ends_with("{model}")) {
    entry["parameters"] =
        json::array({{{"name", "model"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  }
  return entry;
}

json MakeDocument() {
  json paths;
  for (const Operation& operation : kOperations) paths[operation.path][operation.method] = Describe(operation);
  const json error = {{"type", "object"},
                      {"properties",
                       {{"error",
                         {{"type", "object"},
                          {"properties",
                           {{"message", {{"type", "string"}}},
                            {"type", {{"type", "string"}}},
                            {"param", {{"type", {"string", "null"}}}},
                            {"code", {{"type", {"string", "null"}}}}}}}}}}};
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Berth"}, {"version", "1"}, {"description", "Large language models, served from many GPUs."}}},
          {"paths", std::move(paths)},
          {"components",
           {{"schemas", {{"Error", error}}}, {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
          {"security", json::array({{{"key", json::array()}}})}};
}

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string MakePage() {
  std::string page =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Berth: HTTP API</title>"
      "<meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body>"
      "<h1>Berth: HTTP API</h1><p>For programs: <a href=\"/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>\n";
  for (const Operation& operation : kOperations) {
    absl::StrAppend(&page, "<section><h2><code>", absl::AsciiStrToUpper(operation.method), " ", operation.path,
                    "</code></h2><p>", Escaped(operation.summary), "</p>");
    if (*operation.fields != '\0') {
      const json schema = SchemaOf(operation.fields);
      const json required = schema.value("required", json::array());
      page += "<table><tr><th>Field<th>Type<th>";
      for (const auto& [name, field] : schema["properties"].items()) {
        const bool needed = std::find(required.begin(), required.end(), name) != required.end();
        absl::StrAppend(&page, "<tr><td><code>", name, "</code><td>", field.value("type", "any"), "<td>",
                        needed ? "required" : "");
      }
      page += "</table>";
    }
    page += "</section>\n";
  }
  return page + "</body></html>\n";
}

}  // namespace

const json& OpenApi() {
  static const json& document = *new json(MakeDocument());
  return document;
}

const std::string& OpenApiDocument() {
  static const std::string& text = *new std::string(OpenApi().dump(1));
  return text;
}

const std::string& DocumentationPage() {
  static const std::string& page = *new std::string(MakePage());
  return page;
}

std::string_view DocumentationStyle() {
  return ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 "
         "1rem}"
         "section{border-top:1px solid #8886;margin-top:1.5rem}h2{font-size:1.1rem}table{border-collapse:collapse;width:100%}"
         "th,td{text-align:left;padding:.15rem .8rem .15rem 0;border-bottom:1px solid #8884}\n";
}

}  // namespace berth::http
