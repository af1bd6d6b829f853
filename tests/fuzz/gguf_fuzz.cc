#include <cstddef>
#include <cstdint>

#include "worker/loader/gguf.h"
#include "worker/loader/gguf_config.h"
#include "worker/loader/gguf_tokenizer.h"
#include "worker/loader/gguf_tokenizer_keys.h"
#include "worker/text/tokenizer.h"

using namespace berth::loader;  // NOLINT

// A GGUF file: its header, what it says about the model, and its tokenizer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = ParseGguf({reinterpret_cast<const std::byte*>(data), size});
  if (!file.ok()) return 0;
  const auto config = TranslateGgufConfig(*file);
  if (config.ok()) (void)berth::model::FindFamily(*config);
  auto keys = TranslateGgufTokenizer(file->metadata);
  if (!keys.ok()) return 0;
  auto tokenizer_data = ParseGgufTokenizer(*std::move(keys));
  if (!tokenizer_data.ok()) return 0;
  const auto tokenizer = berth::text::MakeTokenizer(*std::move(tokenizer_data));
  if (tokenizer.ok()) (void)(*tokenizer)->Encode("Some text: ünï 世界 123", {});
  return 0;
}
