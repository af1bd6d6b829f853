#include "worker/loader/load_plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "worker/loader/mapped_file.h"

namespace berth::loader {
namespace {

using model::kAllParts;
using model::ParallelAxis;
using model::Slot;
using model::SlotShape;
using model::WeightRule;

constexpr std::string_view kMark = "{}";
constexpr char kAnything = '*';

// The numbers that a name has at the marks of a pattern.
struct Numbers {
  int layer = 0;
  int expert = 0;
};

// Nothing when the name does not fit; numbers are written as StrCat writes them.
std::optional<Numbers> Match(std::string_view pattern, std::string_view name) {
  Numbers numbers;
  for (int* const number : {&numbers.layer, &numbers.expert}) {
    const size_t mark = pattern.find(kMark);
    if (mark == std::string_view::npos) break;
    if (!name.starts_with(pattern.substr(0, mark))) return std::nullopt;
    name.remove_prefix(mark);
    pattern.remove_prefix(mark + kMark.size());
    const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
    const std::string written(name.substr(0, digits));
    if (!absl::SimpleAtoi(written, number) || absl::StrCat(*number) != written) return std::nullopt;
    name.remove_prefix(digits);
  }
  const bool rest_matches =
      pattern.ends_with(kAnything) ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
  return rest_matches ? std::optional(numbers) : std::nullopt;
}

bool HasExperts(const WeightRule& rule) {
  const size_t mark = rule.pattern.find(kMark);
  return mark != std::string_view::npos && rule.pattern.find(kMark, mark + 1) != std::string_view::npos;
}

std::string NameOf(const WeightRule& rule, const Numbers& numbers) {
  std::string name(rule.pattern);
  for (const int number : {numbers.layer, numbers.expert}) {
    const size_t mark = name.find(kMark);
    if (mark != std::string::npos) name.replace(mark, kMark.size(), absl::StrCat(number));
  }
  return name;
}

bool IsWeightType(kernels::DType dtype) {
  using kernels::DType;
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || kernels::IsQuantized(dtype);
}

HeadLayout HeadsOf(Slot slot, const model::AttentionSpec& attention) {
  const int64_t rotary_dim = attention.rope.rotary_dim, rank = attention.latent.rank;
  if (slot == Slot::kLatent) return {1, 0, attention.head_dim, rotary_dim, rank};
  if (slot == Slot::kQ) {
    const int64_t key_dim = attention.latent.key_dim;
    return {attention.q_heads, 0, key_dim + attention.head_dim - rank, rotary_dim, key_dim};
  }
  return {attention.q_heads, attention.kv_heads, attention.head_dim, rotary_dim};
}

class Planner {
 public:
  Planner(const model::DecoderSpec& spec, absl::Span<const WeightRule> rules, const CheckpointIndex& index, const Shard& shard)
      : spec_(spec), rules_(rules), index_(index), shard_(shard) {}

  absl::StatusOr<LoadPlan> Build() {
    for (size_t tensor = 0; tensor < index_.size(); ++tensor) {
      if (absl::Status status = Claim(tensor); !status.ok()) return InFile(index_[tensor].file, status);
    }
    for (int i = 0; i < model::kSlotCount; ++i) {
      const Slot slot = static_cast<Slot>(i);
      const int layers = model::Info(slot).per_layer ? static_cast<int>(spec_.layers.size()) : 1;
      for (int layer = 0; layer < layers; ++layer) BERTH_RETURN_IF_ERROR(PlanSlot(slot, layer));
    }
    BERTH_RETURN_IF_ERROR(PlanDuplicates());
    return std::move(plan_);
  }

 private:
  struct Source {
    size_t tensor = 0;
    const WeightRule* rule = nullptr;
    int part = 0;   // the first one that the tensor has
    int parts = 1;  // so many from there on
  };
  using Place = std::tuple<Slot, int, int>;  // slot, layer, part

  // Nothing for a layer that the model does not have.
  std::optional<SlotShape> Shape(Slot slot, int layer) const {
    if (model::Info(slot).per_layer && layer >= static_cast<int>(spec_.layers.size())) return std::nullopt;
    return model::ShapeOf(spec_, slot, layer);
  }

  // Where a tensor of that name goes. Nothing when the model has no such parts.
  static std::optional<Source> Locate(size_t tensor, const WeightRule& rule, const Numbers& numbers, const SlotShape& shape) {
    const int parts = static_cast<int>(shape.part_rows.size());
    Source source{.tensor = tensor, .rule = &rule, .part = rule.part, .parts = rule.parts};
    if (rule.part == kAllParts) {
      source.part = 0;
      source.parts = parts;
    } else if (HasExperts(rule)) {
      if (numbers.expert >= rule.parts) return std::nullopt;
      source.part += numbers.expert;
      source.parts = 1;
    }
    return source.part + source.parts <= parts ? std::optional(source) : std::nullopt;
  }

  bool IsOfPredictionLayer(const WeightRule& rule, const Numbers& numbers) const {
    const int beyond = numbers.layer - static_cast<int>(spec_.layers.size());
    return model::Info(rule.slot).per_layer && beyond >= 0 && beyond < spec_.prediction_layers;
  }

  // Finds the tensor's place in the model.
  absl::Status Claim(size_t tensor) {
    const TensorInfo& info = index_[tensor];
    for (const WeightRule& rule : rules_) {
      const std::optional<Numbers> numbers = rule.pattern.empty() ? std::nullopt : Match(rule.pattern, info.name);
      if (!numbers) continue;
      if (rule.kind == WeightRule::Kind::kIgnored || IsOfPredictionLayer(rule, *numbers)) return absl::OkStatus();
      if (rule.kind == WeightRule::Kind::kOptionalDuplicate) {
        duplicates_.push_back({tensor, &rule});
        return absl::OkStatus();
      }
      const std::optional<SlotShape> shape = Shape(rule.slot, numbers->layer);
      const std::optional<Source> source = shape ? Locate(tensor, rule, *numbers, *shape) : std::nullopt;
      if (!source) continue;
      BERTH_RETURN_IF_ERROR(CheckShape(info, *shape, *source));
      for (int part = source->part; part < source->part + source->parts; ++part) {
        const auto [it, added] = sources_.try_emplace({rule.slot, numbers->layer, part}, *source);
        if (!added) return Doubled(info, index_[it->second.tensor]);
      }
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("tensor ", info.name, " ", ShapeText(info.shape),
                                                   " has no place in this model (", spec_.family, ", ", spec_.layers.size(),
                                                   " layers)"));
  }

  static absl::Status Doubled(const TensorInfo& a, const TensorInfo& b) {
    return absl::InvalidArgumentError(absl::StrCat("tensors ", b.name, " and ", a.name, " fill the same place"));
  }

  static absl::Status CheckShape(const TensorInfo& info, const SlotShape& shape, const Source& source) {
    const model::Transform transform = source.rule->transform;
    std::vector<int64_t> want = {0};
    for (int part = source.part; part < source.part + source.parts; ++part) want[0] += shape.part_rows[part];
    if (shape.columns != 0) want.push_back(shape.columns);
    if (transform == model::Transform::kTransposedParts) want = {source.parts * want[1], want[0] / source.parts};
    if (info.shape != want) return WrongShape(info, want);
    const bool rows_only = shape.columns != 0 && IsRowOrder(transform);
    if (!IsWeightType(info.dtype) || (!rows_only && kernels::IsQuantized(info.dtype))) {
      return absl::UnimplementedError(
          absl::StrFormat("tensor %s has type %s, which its place cannot have", info.name, kernels::Info(info.dtype).name));
    }
    return absl::OkStatus();
  }

  const Source* Find(Slot slot, int layer, int part) const {
    const auto it = sources_.find({slot, layer, part});
    return it == sources_.end() ? nullptr : &it->second;
  }

  absl::Status PlanSlot(Slot slot, int layer) {
    const std::optional<SlotShape> shape = Shape(slot, layer);
    if (!shape) return absl::OkStatus();
    for (const WeightRule& rule : rules_) {
      if (rule.kind == WeightRule::Kind::kAlias && rule.slot == slot) return PlanAlias(rule, *shape);
    }
    for (int part = 0; part < static_cast<int>(shape->part_rows.size());) {
      const Source* source = Find(slot, layer, part);
      if (source == nullptr) return Missing(slot, layer, part);
      BERTH_RETURN_IF_ERROR(AddStep(slot, layer, *shape, *source));
      part += source->parts;
    }
    return absl::OkStatus();
  }

  absl::Status Missing(Slot slot, int layer, int part) const {
    for (const WeightRule& rule : rules_) {
      if (rule.kind != WeightRule::Kind::kWeight || rule.slot != slot) continue;
      if (rule.part == kAllParts || (rule.part <= part && part < rule.part + rule.parts)) {
        return absl::InvalidArgumentError(absl::StrCat("tensor ", NameOf(rule, {layer, part - rule.part}), " is missing"));
      }
    }
    return absl::InvalidArgumentError(absl::StrFormat("nothing in the naming of %s checkpoints fills slot %s of layer %d",
                                                      spec_.family, model::Info(slot).name, layer));
  }

  absl::Status AddStep(Slot slot, int layer, const SlotShape& shape, const Source& source) {
    RowSelection selection{.transform = source.rule->transform,
                           .heads = HeadsOf(slot, spec_.layers[layer].attention),
                           .parts = source.parts,
                           .columns = shape.columns};
    int64_t begin = 0;
    for (int part = source.part; part < source.part + source.parts; ++part) {
      BERTH_ASSIGN_OR_RETURN(RowRange range, OwnRows(slot, part, shape));
      range.begin += begin;
      selection.ranges.push_back(range);
      begin += shape.part_rows[part];
    }
    BERTH_RETURN_IF_ERROR(SelectColumns(slot, index_[source.tensor], selection));
    if (shard_.size == 1) selection.ranges = {{0, selection.rows()}};
    plan_.steps.push_back({slot, layer, source.tensor, std::move(selection)});
    return absl::OkStatus();
  }

  // This rank's share of a part's rows. Ranks that outnumber the kv heads share them.
  absl::StatusOr<RowRange> OwnRows(Slot slot, int part, const SlotShape& shape) const {
    const int64_t rows = shape.part_rows[part], unit = shape.row_unit, units = rows / unit;
    if (model::Info(slot).axis != ParallelAxis::kRows) return RowRange{0, rows};
    const bool qkv = slot == Slot::kQkv || slot == Slot::kQkvBias || slot == Slot::kQkvAdapterUp;
    const bool shared = qkv && part > 0 && shard_.size % units == 0;
    if (shared && units < shard_.size) return RowRange{shard_.rank * units / shard_.size * unit, unit};
    if (units % shard_.size != 0) return Indivisible(slot, units);
    return RowRange{rows / shard_.size * shard_.rank, rows / shard_.size};
  }

  // This rank's share of the columns.
  absl::Status SelectColumns(Slot slot, const TensorInfo& info, RowSelection& selection) const {
    if (model::Info(slot).axis != ParallelAxis::kColumns) return absl::OkStatus();
    const int64_t unit = kernels::Info(info.dtype).block_elements;
    if (selection.columns % (unit * shard_.size) != 0) return Indivisible(slot, selection.columns / unit);
    selection.columns /= shard_.size;
    selection.column_begin = selection.columns * shard_.rank;
    return absl::OkStatus();
  }

  absl::Status Indivisible(Slot slot, int64_t units) const {
    return absl::InvalidArgumentError(absl::StrFormat("slot %s has %d heads, rows or blocks, which %d ranks cannot divide",
                                                      model::Info(slot).name, units, shard_.size));
  }

  absl::Status PlanAlias(const WeightRule& rule, const SlotShape& shape) {
    BERTH_ASSIGN_OR_RETURN(const RowRange rows, OwnRows(rule.slot, 0, shape));
    plan_.aliases.push_back({rule.slot, rule.source, rows});
    return absl::OkStatus();
  }

  absl::Status PlanDuplicates() {
    for (const Source& duplicate : duplicates_) {
      const Source* original = Find(duplicate.rule->source, 0, 0);
      BERTH_CHECK(original != nullptr) << "the source of a duplicate is a slot of one part, which is planned before";
      const TensorInfo& a = index_[duplicate.tensor];
      const TensorInfo& b = index_[original->tensor];
      if (a.shape != b.shape || a.dtype != b.dtype) {
        return InFile(a.file,
                      absl::InvalidArgumentError(absl::StrFormat("tensor %s is %s%s, want %s%s as %s, to which it is tied",
                                                                 a.name, kernels::Info(a.dtype).name, ShapeText(a.shape),
                                                                 kernels::Info(b.dtype).name, ShapeText(b.shape), b.name)));
      }
      plan_.duplicates.push_back({duplicate.tensor, original->tensor});
    }
    return absl::OkStatus();
  }

  const model::DecoderSpec& spec_;
  absl::Span<const WeightRule> rules_;
  const CheckpointIndex& index_;
  const Shard shard_;
  std::map<Place, Source> sources_;
  std::vector<Source> duplicates_;
  LoadPlan plan_;
};

}  // namespace

absl::Span<const LoadPlan::Step> LoadPlan::SlotSteps(size_t first) const {
  size_t end = first + 1;
  while (end < steps.size() && steps[end].slot == steps[first].slot && steps[end].layer == steps[first].layer) ++end;
  return absl::MakeConstSpan(steps).subspan(first, end - first);
}

absl::StatusOr<LoadPlan> BuildPlan(const model::DecoderSpec& spec, absl::Span<const WeightRule> rules,
                                   const CheckpointIndex& index, const Shard& shard) {
  return Planner(spec, rules, index, shard).Build();
}

}  // namespace berth::loader
