#include <cstddef>
#include <cstdint>
#include <string_view>

#include "worker/loader/tiktoken.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/text/tokenizer.h"

// A tokenizer.json, which then encodes and decodes; and the same bytes as a tiktoken file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)berth::loader::ParseTiktoken(text, "");
  auto parsed = berth::loader::ParseTokenizerJson(text, "");
  if (!parsed.ok()) return 0;
  const auto tokenizer = berth::text::MakeTokenizer(*std::move(parsed));
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode("Some text: <s> ünï 世界 123", {});
  if (ids.ok()) (void)(*tokenizer)->Decode(*ids, false);
  return 0;
}
