#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/text/tokenizer_data.h"

struct pcre2_real_code_8;

namespace berth::text {

// A compiled Pattern, with the character classes of Oniguruma under Unicode. Immutable and thread-safe.
class Matcher {
 public:
  // INVALID_ARGUMENT names the pattern and what is wrong with it.
  static absl::StatusOr<Matcher> Compile(const Pattern& pattern);

  // The scratch memory of one thread's matching; one for many texts. The matcher must outlive it.
  class Scan {
   public:
    explicit Scan(const Matcher& matcher);
    ~Scan();
    Scan(const Scan&) = delete;

    // [begin, end) of every match in `text` (UTF-8), in order; they do not overlap and are not empty. Valid until the next
    // call. INVALID_ARGUMENT when the text needs more backtracking than is allowed.
    absl::StatusOr<absl::Span<const std::pair<size_t, size_t>>> FindAll(std::string_view text);

   private:
    struct Pcre;
    absl::Status FindExpression(std::string_view text);
    void FindLiteral(std::string_view text);

    const Matcher& matcher_;
    std::unique_ptr<Pcre> pcre_;
    std::vector<std::pair<size_t, size_t>> matches_;
  };

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };

  Matcher() = default;

  std::string source_;
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;  // null: a literal
};

}  // namespace berth::text
