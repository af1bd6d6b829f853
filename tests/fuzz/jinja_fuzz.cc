#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "worker/text/chat_template.h"

// A chat template and a short conversation for it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto chat = berth::text::ParseChatTemplate({reinterpret_cast<const char*>(data), size}, "<s>", "</s>");
  if (!chat.ok()) return 0;
  (void)(*chat)->Render({{.role = "system", .content = "Be terse."}, {.role = "user", .content = "Hi"}},
                        {.clock = absl::UnixEpoch()});
  return 0;
}
