// From a JSON schema to a grammar. Keywords: type (one or a list), properties, required, additionalProperties, items, minItems,
// maxItems, enum, const, anyOf, oneOf (as anyOf), allOf (one), $ref into the document, $defs, pattern, format, minLength,
// maxLength, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf. Annotations (title, description, default, …) are
// passed over.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "worker/text/grammar/json_numbers.h"
#include "worker/text/grammar/json_patterns.h"
#include "worker/text/grammar/json_rules.h"

namespace berth::text {
namespace {

using Json = nlohmann::ordered_json;
using ExprId = Grammar::ExprId;
using RuleId = Grammar::RuleId;

constexpr int kMaxDepth = 100;
constexpr int kMaxItems = 10'000;
constexpr size_t kMaxReferences = 5'000;
constexpr size_t kMaxExcludedBytes = 20'000;  // of names that additionalProperties may not have; each is a node

class SchemaReader {
 public:
  SchemaReader(const Json& document, const JsonRules& rules) : document_(document), rules_(rules), grammar_(rules.grammar()) {}

  absl::StatusOr<RuleId> Read() {
    BERTH_ASSIGN_OR_RETURN(const RuleId root, ReferTo("#"));
    while (!waiting_.empty()) {
      const Reference reference = std::move(waiting_.back());
      waiting_.pop_back();
      BERTH_ASSIGN_OR_RETURN(const ExprId body, Value(*reference.schema, reference.path, 0));
      grammar_.Define(reference.rule, body);
    }
    return root;
  }

 private:
  struct Reference {
    std::string path;
    const Json* schema;
    RuleId rule;
  };

  static absl::Status Error(const std::string& path, const std::string& problem) {
    return absl::InvalidArgumentError(absl::StrCat("JSON schema ", path, ": ", problem));
  }

  // The rule of the schema at `reference`, "#" or "#/$defs/name"; its body comes later, as references may be a long chain.
  absl::StatusOr<RuleId> ReferTo(const std::string& reference) {
    const auto known = references_.find(reference);
    if (known != references_.end()) return known->second;
    if (!absl::StartsWith(reference, "#")) return Error(reference, "a reference out of the document is not supported");
    if (references_.size() == kMaxReferences)
      return Error(reference, absl::StrCat("more than ", kMaxReferences, " references"));
    const Json* schema = &document_;
    const std::string pointer = reference.substr(1);
    for (const absl::string_view part : absl::StrSplit(pointer, '/', absl::SkipEmpty())) {
      const std::string key = absl::StrReplaceAll(part, {{"~1", "/"}, {"~0", "~"}});
      const auto member = schema->is_object() ? schema->find(key) : schema->end();
      if (member == schema->end()) return Error(reference, "refers to nothing");
      schema = &*member;
    }
    const auto [it, added] = rule_of_.try_emplace(schema, 0);  // one, however its place is written
    if (added) {
      it->second = grammar_.AddRule(reference);
      waiting_.push_back({reference, schema, it->second});
    }
    return references_.emplace(reference, it->second).first->second;
  }

  absl::StatusOr<ExprId> Value(const Json& schema, const std::string& path, int depth) {
    if (depth > kMaxDepth) return Error(path, "nested too deeply");
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) return Error(path, "no value matches false");
      return rules_.Value();
    }
    if (!schema.is_object()) return Error(path, absl::StrCat("want an object, got ", schema.dump()));
    BERTH_RETURN_IF_ERROR(CheckKeywords(schema, path));
    if (const auto it = schema.find("$ref"); it != schema.end()) {
      if (!it->is_string()) return Error(path + "/$ref", "want a string");
      BERTH_RETURN_IF_ERROR(CheckAlone(schema, path, "$ref"));
      BERTH_ASSIGN_OR_RETURN(const RuleId rule, ReferTo(it->get<std::string>()));
      return grammar_.Refer(rule);
    }
    if (const auto it = schema.find("const"); it != schema.end()) return OneOf(Json::array({*it}), schema, path, "const");
    if (const auto it = schema.find("enum"); it != schema.end()) {
      if (!it->is_array() || it->empty()) return Error(path + "/enum", "want a list of values");
      return OneOf(*it, schema, path, "enum");
    }
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      const auto it = schema.find(key);
      if (it == schema.end()) continue;
      if (!it->is_array() || it->empty()) return Error(absl::StrCat(path, "/", key), "want a list of schemas");
      BERTH_RETURN_IF_ERROR(CheckAlone(schema, path, key));
      if (key[1] == 'l' && it->size() > 1) return Error(absl::StrCat(path, "/", key), "more than one schema is not supported");
      return Alternatives(*it, absl::StrCat(path, "/", key), depth);
    }
    return Typed(schema, path, depth);
  }

  // Those of the values that are of the schema's type, if it names any.
  absl::StatusOr<ExprId> OneOf(const Json& values, const Json& schema, const std::string& path, const char* key) {
    BERTH_RETURN_IF_ERROR(CheckAlone(schema, path, key));
    std::vector<ExprId> choices;
    for (const Json& value : values) {
      if (HasType(value, schema)) choices.push_back(grammar_.Literal(value.dump()));
    }
    if (choices.empty()) return Error(absl::StrCat(path, "/", key), absl::StrCat("has no ", schema.at("type").dump()));
    return grammar_.Choice(std::move(choices));
  }

  static bool HasType(const Json& value, const Json& schema) {
    const auto type = schema.find("type");
    if (type == schema.end()) return true;
    const std::string_view name = value.is_boolean() ? "boolean" : value.is_number() ? "number" : value.type_name();
    for (const Json& one : type->is_array() ? *type : Json::array({*type})) {
      if (one == name || (one == "integer" && value.is_number_integer())) return true;
    }
    return false;
  }

  absl::StatusOr<ExprId> Alternatives(const Json& schemas, const std::string& path, int depth) {
    std::vector<ExprId> choices;
    for (size_t i = 0; i < schemas.size(); ++i) {
      BERTH_ASSIGN_OR_RETURN(const ExprId one, Value(schemas[i], absl::StrCat(path, "/", i), depth + 1));
      choices.push_back(one);
    }
    return grammar_.Choice(std::move(choices));
  }

  absl::StatusOr<ExprId> Typed(const Json& schema, const std::string& path, int depth) {
    const auto it = schema.find("type");
    if (it == schema.end()) {
      for (const auto& [key, value] : schema.items()) {  // values of other types are left out
        const auto keyword = Keywords().find(key);
        if (keyword != Keywords().end() && !keyword->second.empty()) return OfType(keyword->second, schema, path, depth);
      }
      return rules_.Value();
    }
    std::vector<ExprId> choices;
    for (const Json& type : it->is_array() ? *it : Json::array({*it})) {
      if (!type.is_string()) return Error(path + "/type", absl::StrCat("want a string, got ", type.dump()));
      BERTH_ASSIGN_OR_RETURN(const ExprId one, OfType(type.get<std::string>(), schema, path, depth));
      choices.push_back(one);
    }
    if (choices.empty()) return Error(path + "/type", "want at least one type");
    return grammar_.Choice(std::move(choices));
  }

  absl::StatusOr<ExprId> OfType(const std::string& type, const Json& schema, const std::string& path, int depth) {
    if (type == "object") return Object(schema, path, depth);
    if (type == "array") return Array(schema, path, depth);
    if (type == "string") return String(schema, path);
    if (type == "integer") return Number(schema, path, /*integer=*/true);
    if (type == "number") return Number(schema, path, /*integer=*/false);
    if (type == "boolean") return grammar_.Choice({grammar_.Literal("true"), grammar_.Literal("false")});
    if (type == "null") return grammar_.Literal("null");
    return Error(path + "/type", absl::StrCat("unknown type \"", type, "\""));
  }

  absl::StatusOr<ExprId> String(const Json& schema, const std::string& path) {
    std::string pattern;
    if (const auto it = schema.find("pattern"); it != schema.end()) {
      if (!it->is_string()) return Error(path + "/pattern", "want a string");
      pattern = it->get<std::string>();
    } else if (const auto it = schema.find("format"); it != schema.end()) {
      pattern = it->is_string() ? FormatPattern(it->get<std::string>()) : "";
      if (pattern.empty()) return Error(path + "/format", absl::StrCat("unknown format ", it->dump()));
    }
    if (!pattern.empty()) {
      if (schema.contains("minLength") || schema.contains("maxLength")) {
        return Error(path, "a length beside a pattern or a format is not supported");
      }
      absl::StatusOr<ExprId> text = AppendRegex(pattern, grammar_, RegexOf::kJsonString);
      if (!text.ok()) return Error(path, std::string(text.status().message()));
      return grammar_.Sequence({grammar_.Literal("\""), *text, grammar_.Literal("\"")});
    }
    BERTH_ASSIGN_OR_RETURN(const auto limits, Limits(schema, path, "minLength", "maxLength"));
    if (limits == std::pair(0, -1)) return rules_.String();
    return rules_.StringOfLength(limits.first, limits.second);
  }

  absl::StatusOr<ExprId> Number(const Json& schema, const std::string& path, bool integer) {
    NumberLimits limits{.integer = integer};
    for (const auto& [key, value] : schema.items()) {
      const bool multiple = key == "multipleOf", exclusive = absl::StartsWith(key, "exclusive");
      if (!multiple && !exclusive && key != "minimum" && key != "maximum") continue;
      const std::optional<Decimal> number = value.is_number() ? ParseDecimal(value.dump()) : std::nullopt;
      if (!number.has_value()) {
        return Error(absl::StrCat(path, "/", key), absl::StrCat("want a number of at most ", kMaxDecimalDigits,
                                                                " digits before and after its point, got ", value.dump()));
      }
      if (!multiple) {
        limits.bounds.push_back({.value = *number, .least = absl::EndsWith(key, "inimum"), .exclusive = exclusive});
      } else if (number->negative || number->zero()) {
        return Error(path + "/multipleOf", absl::StrCat("want a number above 0, got ", value.dump()));
      } else {
        limits.multiple_of = number;
      }
    }
    if (limits.bounds.empty() && !limits.multiple_of.has_value()) return integer ? rules_.Integer() : rules_.Number();
    absl::StatusOr<ExprId> expr = AppendNumber(limits, grammar_);
    if (expr.ok()) return expr;
    if (!absl::IsOutOfRange(expr.status())) return Error(path, std::string(expr.status().message()));
    return Error(path + "/multipleOf",
                 absl::StrCat(schema.at("multipleOf").dump(), " is not supported: ", std::string(expr.status().message())));
  }

  // A count of at least 0 each; -1 where `most_key` is absent.
  absl::StatusOr<std::pair<int, int>> Limits(const Json& schema, const std::string& path, const char* least_key,
                                             const char* most_key) {
    std::pair<int, int> limits(0, -1);
    for (const auto& [key, limit] : {std::pair(least_key, &limits.first), std::pair(most_key, &limits.second)}) {
      const auto it = schema.find(key);
      if (it == schema.end()) continue;
      if (!it->is_number_unsigned() || it->get<uint64_t>() > kMaxItems) {
        return Error(absl::StrCat(path, "/", key), absl::StrCat("want an integer from 0 to ", kMaxItems, ", got ", it->dump()));
      }
      *limit = it->get<int>();
    }
    if (limits.second >= 0 && limits.first > limits.second) return Error(path, absl::StrCat(least_key, " is above ", most_key));
    return limits;
  }

  absl::StatusOr<ExprId> Array(const Json& schema, const std::string& path, int depth) {
    BERTH_ASSIGN_OR_RETURN(auto limits, Limits(schema, path, "minItems", "maxItems"));
    if (schema.contains("prefixItems")) return Error(path + "/prefixItems", "is not supported");
    ExprId item = rules_.Value();
    if (const auto it = schema.find("items"); it != schema.end()) {
      BERTH_ASSIGN_OR_RETURN(item, Value(*it, path + "/items", depth + 1));
    } else if (limits == std::pair(0, -1)) {
      return rules_.Array();
    }
    // Named, so that the network has the item once however often it may come.
    if (limits.second == 0) return rules_.Braces("[", "]", grammar_.Sequence({}));
    const ExprId list = rules_.List(rules_.Named(path + "/items", item), limits.first, limits.second);
    return rules_.Braces("[", "]", limits.first == 0 ? grammar_.Optional(list) : list);
  }

  absl::StatusOr<ExprId> Object(const Json& schema, const std::string& path, int depth) {
    absl::flat_hash_set<std::string> required;
    if (const auto it = schema.find("required"); it != schema.end()) {
      if (!it->is_array()) return Error(path + "/required", "want a list of names");
      for (const Json& name : *it) {
        if (!name.is_string()) return Error(path + "/required", absl::StrCat("want a name, got ", name.dump()));
        required.insert(name.get<std::string>());
      }
    }
    struct Property {
      ExprId member;
      bool required;
    };
    std::vector<Property> properties;
    std::vector<std::string> names;
    if (const auto it = schema.find("properties"); it != schema.end()) {
      if (!it->is_object()) return Error(path + "/properties", "want an object");
      for (const auto& [name, value] : it->items()) {
        BERTH_ASSIGN_OR_RETURN(const ExprId expr, Value(value, absl::StrCat(path, "/properties/", name), depth + 1));
        names.push_back(Json(name).dump());
        properties.push_back({rules_.Member(grammar_.Literal(names.back()), expr), required.erase(name) > 0});
      }
    }
    if (!required.empty())
      return Error(path + "/required", absl::StrCat("\"", *required.begin(), "\" is not among the properties"));
    const auto more = schema.find("additionalProperties");
    std::optional<ExprId> other;
    if (more == schema.end() ? properties.empty() : *more != Json(false)) {
      ExprId value = rules_.Value();
      if (more != schema.end()) {
        BERTH_ASSIGN_OR_RETURN(value, Value(*more, path + "/additionalProperties", depth + 1));
      }
      for (const std::string& name : names) excluded_bytes_ += name.size();
      if (excluded_bytes_ > kMaxExcludedBytes) {
        return Error(path + "/additionalProperties", absl::StrCat("beside properties whose names have more than ",
                                                                  kMaxExcludedBytes, " bytes in all is not supported"));
      }
      const ExprId name = names.empty() ? rules_.String() : rules_.Named(path + "/other name", rules_.StringExcept(names));
      other = rules_.Member(name, value);
    }
    // From the last property to the first: what may follow after a member, and in the place of the first one.
    ExprId after = grammar_.Sequence({}), first = after;
    if (other.has_value()) {
      const ExprId rest = grammar_.Repeat(grammar_.Sequence({rules_.Comma(), *other}), 0, -1);
      after = rest;
      first = grammar_.Optional(grammar_.Sequence({*other, rest}));
    }
    for (auto property = properties.rbegin(); property != properties.rend(); ++property) {
      const ExprId tail = rules_.Named(path, after);
      const ExprId next = grammar_.Sequence({rules_.Comma(), property->member, tail}),
                   begin = grammar_.Sequence({property->member, tail});
      after = property->required ? next : grammar_.Choice({next, tail});
      first = property->required ? begin : grammar_.Choice({begin, first});
    }
    return rules_.Braces("{", "}", first);
  }

  // Those that may restrict a value, each with the type that it is about, if it is about one.
  static const absl::flat_hash_map<std::string, std::string>& Keywords() {
    static const auto& keywords = *new absl::flat_hash_map<std::string, std::string>{{"type", ""},
                                                                                     {"enum", ""},
                                                                                     {"const", ""},
                                                                                     {"anyOf", ""},
                                                                                     {"oneOf", ""},
                                                                                     {"allOf", ""},
                                                                                     {"$ref", ""},
                                                                                     {"properties", "object"},
                                                                                     {"required", "object"},
                                                                                     {"additionalProperties", "object"},
                                                                                     {"items", "array"},
                                                                                     {"prefixItems", "array"},
                                                                                     {"minItems", "array"},
                                                                                     {"maxItems", "array"},
                                                                                     {"pattern", "string"},
                                                                                     {"format", "string"},
                                                                                     {"minLength", "string"},
                                                                                     {"maxLength", "string"},
                                                                                     {"minimum", "number"},
                                                                                     {"maximum", "number"},
                                                                                     {"exclusiveMinimum", "number"},
                                                                                     {"exclusiveMaximum", "number"},
                                                                                     {"multipleOf", "number"}};
    return keywords;
  }

  static absl::Status CheckKeywords(const Json& schema, const std::string& path) {
    for (const auto& [key, value] : schema.items()) {
      if (!Keywords().contains(key) && !IsAnnotation(key)) return Error(absl::StrCat(path, "/", key), "is not supported");
    }
    return absl::OkStatus();
  }

  // `key` decides alone what a value is; a type may stand beside values. Others would have to hold as well.
  static absl::Status CheckAlone(const Json& schema, const std::string& path, const std::string& key) {
    const bool values = key == "enum" || key == "const";
    for (const auto& [other, value] : schema.items()) {
      if (other == key || IsAnnotation(other) || (values && other == "type")) continue;
      return Error(absl::StrCat(path, "/", other), absl::StrCat("beside \"", key, "\" is not supported"));
    }
    return absl::OkStatus();
  }

  static bool IsAnnotation(const std::string& key) {
    static const auto& annotations = *new absl::flat_hash_set<std::string>{
        "$defs", "definitions", "title",      "description", "default",   "examples", "$schema",
        "$id",   "$comment",    "deprecated", "readOnly",    "writeOnly", "nullable", "strict"};
    return annotations.contains(key);
  }

  const Json& document_;
  const JsonRules& rules_;
  Grammar& grammar_;
  absl::flat_hash_map<std::string, RuleId> references_;
  absl::flat_hash_map<const Json*, RuleId> rule_of_;
  std::vector<Reference> waiting_;
  size_t excluded_bytes_ = 0;
};

}  // namespace

absl::StatusOr<Grammar::RuleId> AppendJsonSchema(std::string_view schema, const JsonRules& rules) {
  BERTH_RETURN_IF_ERROR(CheckSize(schema));
  const Json document = Json::parse(schema, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return absl::InvalidArgumentError("JSON schema: not JSON");
  return SchemaReader(document, rules).Read();
}

absl::StatusOr<Grammar> ParseJsonSchema(std::string_view schema) {
  Grammar grammar;
  BERTH_ASSIGN_OR_RETURN(const RuleId root, AppendJsonSchema(schema, JsonRules(grammar)));
  grammar.set_root(root);
  return grammar;
}

Grammar JsonObjectGrammar() {
  Grammar grammar;
  grammar.set_root(JsonRules(grammar).object_rule());
  return grammar;
}

}  // namespace berth::text
