#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "proto/berth/v1/generation.pb.h"
#include "worker/engine/sequence.h"
#include "worker/text/grammar/grammar.h"
#include "worker/text/grammar/matcher.h"
#include "worker/text/output_format.h"
#include "worker/text/tokenizer.h"

namespace berth::service {

// The grammars of one model's constrained requests; the last ones are kept. Thread-safe.
class GrammarStore {
 public:
  explicit GrammarStore(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // INVALID_ARGUMENT names the field. Takes milliseconds, and a good part of a second the first time: for the tokenizer pool.
  absl::StatusOr<std::shared_ptr<const text::CompiledGrammar>> Compile(const v1::Constraint& constraint);
  // Of an answer that must call one of the chat's tools, and whose opening is in the prompt.
  absl::StatusOr<std::shared_ptr<const text::CompiledGrammar>> CompileCalls(const v1::ChatPrompt& chat,
                                                                            text::ToolFormat format);

 private:
  static constexpr size_t kKept = 32;
  using Grammar = std::shared_ptr<const text::CompiledGrammar>;

  absl::StatusOr<Grammar> Compile(const char* field, const std::string& key,
                                  absl::FunctionRef<absl::StatusOr<text::Grammar>()> parse);

  const text::Tokenizer& tokenizer_;
  std::once_flag trie_made_;
  std::unique_ptr<const text::TokenTrie> trie_;
  base::Mutex mutex_;
  std::list<std::pair<std::string, Grammar>> kept_;  // by what they were made of, the last used first
};

// Holds one choice to `grammar`. It ends with one of `end_tokens`, which may come where the grammar may end. `output` is what
// the choice has already. The tokenizer must outlive it.
std::shared_ptr<engine::TokenConstraint> MakeConstraint(std::shared_ptr<const text::CompiledGrammar> grammar,
                                                        const text::Tokenizer& tokenizer, std::vector<int32_t> end_tokens,
                                                        absl::Span<const int32_t> output);

}  // namespace berth::service
