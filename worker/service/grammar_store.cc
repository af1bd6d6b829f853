#include "worker/service/grammar_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"
#include "worker/text/grammar/tool_calls.h"

namespace berth::service {
namespace {

absl::StatusOr<text::Grammar> Parse(const v1::Constraint& constraint) {
  switch (constraint.kind_case()) {
    case v1::Constraint::kJsonSchema:
      return text::ParseJsonSchema(constraint.json_schema());
    case v1::Constraint::kRegex:
      return text::ParseRegex(constraint.regex());
    case v1::Constraint::kEbnf:
      return text::ParseEbnf(constraint.ebnf());
    case v1::Constraint::kJsonObject:
      return text::JsonObjectGrammar();
    case v1::Constraint::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("has no kind");
}

class GrammarConstraint : public engine::TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<const text::CompiledGrammar> grammar, const text::Tokenizer& tokenizer,
                    std::vector<int32_t> end_tokens)
      : tokenizer_(tokenizer), end_tokens_(std::move(end_tokens)), matcher_(std::move(grammar)) {}

  int mask_words() const override { return (tokenizer_.size() + 31) / 32; }

  void FillMask(absl::Span<uint32_t> mask) override {
    matcher_.FillMask(mask);
    for (const int32_t id : end_tokens_) {
      if (!matcher_.complete()) mask[id / 32] &= ~(1u << (id % 32));
      if (matcher_.complete()) mask[id / 32] |= 1u << (id % 32);
    }
  }

  void Accept(int32_t token) override {
    if (std::find(end_tokens_.begin(), end_tokens_.end(), token) == end_tokens_.end()) {
      matcher_.Accept(tokenizer_.TokenBytes(token, false));
    }
  }

 private:
  const text::Tokenizer& tokenizer_;
  const std::vector<int32_t> end_tokens_;
  text::GrammarMatcher matcher_;
};

}  // namespace

absl::StatusOr<GrammarStore::Grammar> GrammarStore::Compile(const v1::Constraint& constraint) {
  return Compile("constraint", constraint.SerializeAsString(), [&] { return Parse(constraint); });
}

absl::StatusOr<GrammarStore::Grammar> GrammarStore::CompileCalls(const v1::ChatPrompt& chat, text::ToolFormat format) {
  const std::vector<std::string> tools(chat.tool_schemas().begin(), chat.tool_schemas().end());
  v1::ChatPrompt key;
  *key.mutable_tool_schemas() = chat.tool_schemas();
  key.set_forced_tool(chat.forced_tool());
  return Compile("prompt.chat.tool_schemas", absl::StrCat("calls ", key.SerializeAsString()),
                 [&] { return text::ToolCallGrammar(format, tools, chat.forced_tool()); });
}

absl::StatusOr<GrammarStore::Grammar> GrammarStore::Compile(const char* field, const std::string& key,
                                                            absl::FunctionRef<absl::StatusOr<text::Grammar>()> parse) {
  {
    base::MutexLock lock(mutex_);
    const auto it = std::find_if(kept_.begin(), kept_.end(), [&](const auto& item) { return item.first == key; });
    if (it != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, it);
      return it->second;
    }
  }
  const absl::StatusOr<text::Grammar> grammar = parse();
  if (!grammar.ok()) return rpc::FieldError(field, std::string(grammar.status().message()));
  std::call_once(trie_made_, [this] { trie_ = std::make_unique<text::TokenTrie>(tokenizer_); });
  absl::StatusOr<Grammar> compiled = text::CompiledGrammar::Make(*grammar, *trie_);
  if (!compiled.ok()) return rpc::FieldError(field, std::string(compiled.status().message()));
  base::MutexLock lock(mutex_);
  kept_.emplace_front(key, *compiled);
  if (kept_.size() > kKept) kept_.pop_back();
  return compiled;
}

std::shared_ptr<engine::TokenConstraint> MakeConstraint(std::shared_ptr<const text::CompiledGrammar> grammar,
                                                        const text::Tokenizer& tokenizer, std::vector<int32_t> end_tokens,
                                                        absl::Span<const int32_t> output) {
  auto constraint = std::make_shared<GrammarConstraint>(std::move(grammar), tokenizer, std::move(end_tokens));
  for (const int32_t token : output) constraint->Accept(token);
  return constraint;
}

}  // namespace berth::service
