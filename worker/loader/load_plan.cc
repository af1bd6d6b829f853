#include "worker/loader/load_plan.h"

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

namespace berth::loader {
namespace {

using model::kAllParts;
using model::ParallelAxis;
using model::Slot;
using model::SlotShape;
using model::WeightRule;

constexpr std::string_view kLayerMark = "{}";

// The layer that `name` names under `pattern` (0 for patterns without one); nothing when the name does not fit.
std::optional<int> MatchLayer(std::string_view pattern, std::string_view name) {
  const size_t mark = pattern.find(kLayerMark);
  if (mark == std::string_view::npos) return pattern == name ? std::optional<int>(0) : std::nullopt;
  const std::string_view head = pattern.substr(0, mark);
  const std::string_view tail = pattern.substr(mark + kLayerMark.size());
  if (name.size() <= head.size() + tail.size() || !name.starts_with(head) || !name.ends_with(tail)) return std::nullopt;
  const std::string number(name.substr(head.size(), name.size() - head.size() - tail.size()));
  int layer = 0;
  if (!absl::SimpleAtoi(number, &layer) || layer < 0 || absl::StrCat(layer) != number) return std::nullopt;
  return layer;
}

std::string NameOf(const WeightRule& rule, int layer) {
  std::string name(rule.pattern);
  const size_t mark = name.find(kLayerMark);
  return mark == std::string::npos ? name : name.replace(mark, kLayerMark.size(), absl::StrCat(layer));
}

bool IsWeightType(kernels::DType dtype) {
  using kernels::DType;
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || kernels::IsQuantized(dtype);
}

class Planner {
 public:
  Planner(const model::DecoderSpec& spec, absl::Span<const WeightRule> rules, const CheckpointIndex& index, const Shard& shard)
      : spec_(spec), rules_(rules), index_(index), shard_(shard) {}

  absl::StatusOr<LoadPlan> Build() {
    for (size_t tensor = 0; tensor < index_.size(); ++tensor) BERTH_RETURN_IF_ERROR(Claim(tensor));
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
  };
  using Place = std::tuple<Slot, int, int>;  // slot, layer, part

  // Nothing for a layer or part that the model does not have.
  std::optional<SlotShape> Shape(Slot slot, int layer, int part) const {
    if (model::Info(slot).per_layer && layer >= static_cast<int>(spec_.layers.size())) return std::nullopt;
    std::optional<SlotShape> shape = model::ShapeOf(spec_, slot, layer);
    if (shape && part >= static_cast<int>(shape->part_rows.size())) return std::nullopt;
    return shape;
  }

  // Finds the tensor's place in the model.
  absl::Status Claim(size_t tensor) {
    const TensorInfo& info = index_[tensor];
    for (const WeightRule& rule : rules_) {
      const std::optional<int> layer = rule.pattern.empty() ? std::nullopt : MatchLayer(rule.pattern, info.name);
      if (!layer) continue;
      if (rule.kind == WeightRule::Kind::kIgnored) return absl::OkStatus();
      if (rule.kind == WeightRule::Kind::kOptionalDuplicate) {
        duplicates_.push_back({tensor, &rule});
        return absl::OkStatus();
      }
      const std::optional<SlotShape> shape = Shape(rule.slot, *layer, rule.part);
      if (!shape) continue;
      BERTH_RETURN_IF_ERROR(CheckShape(info, *shape, rule.part));
      const auto [it, added] = sources_.try_emplace({rule.slot, *layer, rule.part}, Source{tensor, &rule});
      if (!added) return Doubled(info, index_[it->second.tensor]);
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("tensor ", info.name, " ", ShapeText(info.shape),
                                                   " has no place in this model (", spec_.family, ", ", spec_.layers.size(),
                                                   " layers)"));
  }

  static absl::Status Doubled(const TensorInfo& a, const TensorInfo& b) {
    return absl::InvalidArgumentError(absl::StrCat("tensors ", b.name, " and ", a.name, " fill the same place"));
  }

  static absl::Status CheckShape(const TensorInfo& info, const SlotShape& shape, int part) {
    std::vector<int64_t> want = {part == kAllParts ? shape.rows() : shape.part_rows[part]};
    if (shape.columns != 0) want.push_back(shape.columns);
    if (info.shape != want) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", info.name, " has shape ", ShapeText(info.shape), ", want ", ShapeText(want)));
    }
    if (!IsWeightType(info.dtype) || (shape.columns == 0 && kernels::IsQuantized(info.dtype))) {
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
    const std::optional<SlotShape> shape = Shape(slot, layer, kAllParts);
    if (!shape) return absl::OkStatus();
    for (const WeightRule& rule : rules_) {
      if (rule.kind == WeightRule::Kind::kAlias && rule.slot == slot) return PlanAlias(rule, *shape);
    }
    const Source* whole = Find(slot, layer, kAllParts);
    if (whole != nullptr) BERTH_RETURN_IF_ERROR(AddStep(slot, layer, kAllParts, *shape, *whole));
    for (int part = 0; part < static_cast<int>(shape->part_rows.size()); ++part) {
      const Source* source = Find(slot, layer, part);
      if (whole != nullptr && source != nullptr) return Doubled(index_[source->tensor], index_[whole->tensor]);
      if (whole != nullptr) continue;
      if (source == nullptr) return Missing(slot, layer, part);
      BERTH_RETURN_IF_ERROR(AddStep(slot, layer, part, *shape, *source));
    }
    return absl::OkStatus();
  }

  absl::Status Missing(Slot slot, int layer, int part) const {
    for (const WeightRule& rule : rules_) {
      if (rule.kind == WeightRule::Kind::kWeight && rule.slot == slot && (rule.part == part || rule.part == kAllParts)) {
        return absl::InvalidArgumentError(absl::StrCat("tensor ", NameOf(rule, layer), " is missing"));
      }
    }
    return absl::InvalidArgumentError(absl::StrFormat("nothing in the naming of %s checkpoints fills slot %s of layer %d",
                                                      spec_.family, model::Info(slot).name, layer));
  }

  absl::Status AddStep(Slot slot, int layer, int part, const SlotShape& shape, const Source& source) {
    const model::AttentionSpec& attention = spec_.layers[layer].attention;
    RowSelection selection{.transform = source.rule->transform,
                           .heads = {attention.q_heads, attention.kv_heads, attention.head_dim},
                           .columns = shape.columns};
    int64_t begin = 0;
    for (int i = 0; i < static_cast<int>(shape.part_rows.size()); ++i) {
      if (part != kAllParts && part != i) continue;
      BERTH_ASSIGN_OR_RETURN(RowRange range, OwnRows(slot, shape.part_rows[i], shape.row_unit));
      range.begin += begin;
      selection.ranges.push_back(range);
      begin += shape.part_rows[i];
    }
    BERTH_RETURN_IF_ERROR(SelectColumns(slot, index_[source.tensor], selection));
    if (shard_.size == 1) selection.ranges = {{0, selection.rows()}};
    plan_.steps.push_back({slot, layer, source.tensor, std::move(selection)});
    return absl::OkStatus();
  }

  // This rank's share of a part's rows.
  absl::StatusOr<RowRange> OwnRows(Slot slot, int64_t rows, int64_t unit) const {
    if (model::Info(slot).axis != ParallelAxis::kRows) return RowRange{0, rows};
    if (rows % (unit * shard_.size) != 0) return Indivisible(slot, rows / unit);
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
    BERTH_ASSIGN_OR_RETURN(const RowRange rows, OwnRows(rule.slot, shape.rows(), shape.row_unit));
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
        return absl::InvalidArgumentError(absl::StrFormat("tensor %s is %s%s, want %s%s as %s, to which it is tied", a.name,
                                                          kernels::Info(a.dtype).name, ShapeText(a.shape),
                                                          kernels::Info(b.dtype).name, ShapeText(b.shape), b.name));
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

absl::StatusOr<LoadPlan> BuildPlan(const model::DecoderSpec& spec, absl::Span<const WeightRule> rules,
                                   const CheckpointIndex& index, const Shard& shard) {
  return Planner(spec, rules, index, shard).Build();
}

}  // namespace berth::loader
