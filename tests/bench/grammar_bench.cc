// What a grammar costs: grammar_bench MODEL. Texts are read token by token as an output would be: a mask, then the token. Of
// each grammar's first output, whose masks nobody has asked for yet, and of a second one; one thread, microseconds a token.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/check.h"
#include "worker/loader/model_files.h"
#include "worker/text/grammar/matcher.h"

namespace berth::text {
namespace {

double Microseconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - since).count();
}

struct Case {
  const char* name;
  absl::StatusOr<Grammar> grammar;
  std::string text;
};

std::string Words(int count) {
  static constexpr const char* kWords[] = {"harbour", "the", "quay", "of", "seven", "cranes", "and", "ropes", "in", "fog,"};
  std::string text;
  for (int i = 0; i < count; ++i) text += std::string(i > 0 ? " " : "") + kWords[i * 7 % 10];
  return text;
}

std::vector<Case> Cases() {
  const std::string person =
      R"({"type": "object", "additionalProperties": false, "required": ["name", "age", "tags", "home"], "properties": {
          "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
          "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
          "home": {"type": "object", "additionalProperties": false, "required": ["street", "zip"],
                   "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}}}}})";
  const std::string limited =
      R"({"type": "object", "additionalProperties": false, "required": ["note"], "properties": {
          "note": {"type": "string", "maxLength": 500}}})";
  return {
      {"schema", ParseJsonSchema(person),
       R"({"name": "Ada Lovelace", "age": 36, "tags": ["red", "blue", "green"], "home": {"street": "St James's Square 12", "zip": "20144"}})"},
      {"string of at most 500", ParseJsonSchema(limited), "{\"note\": \"" + Words(75) + "\"}"},
      {"any JSON object", ParseJsonSchema(R"({"type": "object"})"),
       R"({"list": [1, 2.5, -3e4, null, true], "text": ")" + Words(60) + R"(", "deep": {"a": {"b": {"c": [[], {}]}}}})"},
      {"regex", ParseRegex(R"((\d{4})-(0[1-9]|1[0-2])-\d\d: [a-z ,.]{1,400})"), "2026-11-26: " + Words(50)},
  };
}

void Print(const char* name, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  double sum = 0;
  for (const double time : times) sum += time;
  std::printf("  %s: mean %.1f, median %.1f, p99 %.1f, most %.1f\n", name, sum / times.size(), times[times.size() / 2],
              times[times.size() * 99 / 100], times.back());
}

int Run(const std::string& path) {
  auto files = loader::OpenModel(path, loader::LoadFormat::kCheckpoint);
  BERTH_CHECK(files.ok()) << files.status();
  const auto tokenizer = MakeTokenizer(std::move(files->tokenizer));
  BERTH_CHECK(tokenizer.ok()) << tokenizer.status();
  const TokenTrie trie(**tokenizer);
  std::vector<uint32_t> mask(((*tokenizer)->size() + 31) / 32);
  std::printf("vocabulary %d\n", (*tokenizer)->size());
  for (const Case& item : Cases()) {
    BERTH_CHECK(item.grammar.ok()) << item.name << ": " << item.grammar.status();
    const auto begin = std::chrono::steady_clock::now();
    const auto compiled = CompiledGrammar::Make(*item.grammar, trie);
    BERTH_CHECK(compiled.ok()) << item.name << ": " << compiled.status();
    const double compile = Microseconds(begin);
    const auto ids = (*tokenizer)->Encode(item.text, {});
    BERTH_CHECK(ids.ok()) << ids.status();
    std::printf("%s: %zu nodes, compiled in %.1f ms, %zu tokens\n", item.name, (*compiled)->network().nodes.size(),
                compile / 1000, ids->size());
    for (const char* output : {"first output", "second output"}) {
      GrammarMatcher matcher(*compiled);
      std::vector<double> times;
      for (const int32_t id : *ids) {
        const auto since = std::chrono::steady_clock::now();
        matcher.FillMask(absl::MakeSpan(mask));
        const bool accepted = matcher.Accept((*tokenizer)->TokenBytes(id, false));
        times.push_back(Microseconds(since));
        BERTH_CHECK(accepted && (mask[id / 32] >> (id % 32) & 1) != 0) << item.name << " at token " << times.size();
      }
      BERTH_CHECK(matcher.complete()) << item.name;
      Print(output, std::move(times));
    }
  }
  return 0;
}

}  // namespace
}  // namespace berth::text

int main(int argc, char** argv) {
  if (argc == 2) return berth::text::Run(argv[1]);
  std::fprintf(stderr, "usage: grammar_bench MODEL\n");
  return 2;
}
