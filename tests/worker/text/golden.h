#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/text/tokenizer.h"

namespace berth::text {

// Files of tests/golden/text, which its make_*.py wrote.
std::string ReadGolden(const std::string& name);
// Its lines, with the escapes of make_corpus.py undone.
std::vector<std::string> ReadGoldenLines(const std::string& name);
std::vector<std::string> ReadCorpus();

// Eight hexadecimal digits, as make_tokenizers.py hashes.
std::string GoldenHash(std::string_view bytes);
std::string GoldenHash(const std::vector<int32_t>& ids);

// The lists of ids whose decoding the golden files hold.
std::vector<std::vector<int32_t>> GoldenIdLists(int32_t size);

// Expects that `tokenizer` encodes the corpus as NAME.ids, each line between `before` and `after`.
void ExpectGoldenIds(const Tokenizer& tokenizer, const std::string& name, const EncodeOptions& options,
                     const std::string& before = "", const std::string& after = "");
// Expects that `tokenizer` decodes the lists as NAME.texts. `always_skip`: else special tokens show in lists of odd length.
void ExpectGoldenTexts(const Tokenizer& tokenizer, const std::string& name, bool always_skip);

}  // namespace berth::text
