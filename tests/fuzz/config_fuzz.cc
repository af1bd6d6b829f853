#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "worker/loader/workspace.h"
#include "worker/model/hf_config.h"
#include "worker/model/weight_rules.h"

// A config.json, for every family; and the same bytes as the manifest of a workspace.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)berth::loader::ParseWorkspaceManifest(text);
  auto config = berth::model::HfConfig::Parse(text);
  if (!config.ok()) return 0;
  (void)berth::model::FindFamily(*config);
  for (const berth::model::Family* family : berth::model::Families()) {
    for (const std::string_view architecture : family->architectures) {
      config->SetList("architectures", {std::string(architecture)});
      (void)family->parse(*config);
    }
  }
  (void)berth::model::HfConfig::Parse(config->ToJson());
  return 0;
}
