#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/hf_config.h"
#include "worker/model/slots.h"

namespace berth::model {

// How a checkpoint's tensor becomes canonical rows; worker/loader/transforms.h has the formulas. The first ones are orders of
// whole rows, so that they are legal on quantised rows and hold for biases as for matrices; the others compute on elements.
enum class Transform : uint8_t {
  kCopy,
  kInterleavedRope,  // inside a head, rotary pairs are neighbours; canonical: half the rotary dimensions apart
  kGroupedQkv,       // per kv head: its q heads, then its k, then its v; canonical: all q, all k, all v
  kNormalizedRows,   // canonical: each row divided by its length
  kTransposedParts,  // each part is stored transposed
  kMinusOne,         // canonical: each element less 1
};

// The part of a rule whose tensor holds all parts of the slot, one behind the other.
inline constexpr int kAllParts = -1;

// What becomes of the tensors whose name fits `pattern`, in which the first "{}" stands for the layer's number and the second
// for an expert's. A pattern that ends in "*" fits every name that begins so.
struct WeightRule {
  enum class Kind : uint8_t {
    kWeight,             // fills `part` of `slot`
    kIgnored,            // may be there and is not read: `reason`
    kAlias,              // no tensor: `slot` has the storage of `source`
    kOptionalDuplicate,  // may be there, and then equals `source`
  };

  Kind kind = Kind::kWeight;
  std::string_view pattern;
  Slot slot = Slot::kEmbed;
  int part = 0;
  int parts = 1;  // from `part` on: all in one tensor or, where the pattern has experts, one in the tensor of each
  Transform transform = Transform::kCopy;
  Slot source = Slot::kEmbed;
  std::string_view reason;
};

WeightRule Weight(std::string_view pattern, Slot slot, int part = 0, Transform transform = Transform::kCopy);
// Expert e's tensor fills part `part` + e, or one tensor fills the parts of all experts.
WeightRule ExpertWeight(std::string_view pattern, Slot slot, int part, int experts, Transform transform = Transform::kCopy);
WeightRule Ignored(std::string_view pattern, std::string_view reason);
WeightRule Alias(Slot slot, Slot source);
WeightRule OptionalDuplicate(std::string_view pattern, Slot source);

// The rules for a head of its own, or for one tied to the embedding, whose copy in the checkpoint must then equal it.
void AddHeadRules(const DecoderSpec& spec, std::string_view name, std::vector<WeightRule>& rules);

// One family of architectures: how its configuration reads and what its tensors are called.
struct Family {
  std::string_view name;
  absl::Span<const std::string_view> architectures;  // values of the configuration's "architectures"
  absl::StatusOr<DecoderSpec> (*parse)(const HfConfig& config) = nullptr;
  std::vector<WeightRule> (*rules)(const DecoderSpec& spec) = nullptr;
};

// Every family that Berth runs: the array in families/families.cc.
absl::Span<const Family* const> Families();

// The family of the configuration's architecture. UNIMPLEMENTED names an architecture that no family knows.
absl::StatusOr<const Family*> FindFamily(const HfConfig& config);

}  // namespace berth::model
