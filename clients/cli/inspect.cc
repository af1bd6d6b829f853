#include "clients/cli/inspect.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "kernels/kv_layout.h"
#include "nlohmann/json.hpp"
#include "worker/loader/load_plan.h"
#include "worker/loader/model_files.h"
#include "worker/loader/slot_members.h"

namespace berth::cli {
namespace {

using kernels::DType;
using Json = nlohmann::ordered_json;

std::string NameOf(DType dtype) { return std::string(kernels::Info(dtype).name); }

// Elements that one of `ranks` ranks holds, of matrices and of vectors.
struct Elements {
  int64_t matrices = 0, vectors = 0;
};

Elements CountElements(const model::DecoderSpec& spec, int ranks) {
  Elements out;
  const absl::Status status = loader::ForEachSlot(spec, [&](model::Slot slot, int, const model::SlotShape& shape) {
    if ((slot == model::Slot::kHead && spec.tied_head) || model::Info(slot).adapter) return absl::OkStatus();
    const bool shared = model::Info(slot).axis != model::ParallelAxis::kNone;
    const int64_t elements = shape.rows() * std::max<int64_t>(shape.columns, 1) / (shared ? ranks : 1);
    (shape.columns > 0 ? out.matrices : out.vectors) += elements;
    return absl::OkStatus();
  });
  status.IgnoreError();  // the visitor has no errors
  return out;
}

int64_t WeightBytes(const model::DecoderSpec& spec, DType dtype, int ranks) {
  const Elements elements = CountElements(spec, ranks);
  return elements.matrices * kernels::Info(dtype).block_bytes + elements.vectors * static_cast<int64_t>(sizeof(float));
}

int64_t KvBytesPerToken(const model::DecoderSpec& spec, DType dtype, int ranks) {
  int64_t elements = 0;
  for (const model::LayerSpec& layer : spec.layers) {
    elements += layer.attention.kv_elements() / std::min(ranks, layer.attention.kv_heads);
  }
  return elements * kernels::Info(dtype).block_bytes;
}

absl::Status FitContext(ModelReport& report) {
  const int64_t weights = WeightBytes(report.spec, report.dtype, report.ranks);
  if (weights > report.memory) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the weights of %s in %s take %d bytes of each of %d ranks, and %d are "
                        "given",
                        report.name, NameOf(report.dtype), weights, report.ranks, report.memory));
  }
  const int64_t blocks = (report.memory - weights) / (report.kv_bytes_per_token * kernels::kKvBlockTokens);
  report.largest_context = std::min<int64_t>(blocks * kernels::kKvBlockTokens, report.spec.max_position);
  return absl::OkStatus();
}

bool HasWeights(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return true;
  const auto files = std::filesystem::directory_iterator(path, error);
  return std::any_of(begin(files), end(files), [](const std::filesystem::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return name.find(".safetensors") != std::string::npos || name.find(".bin") != std::string::npos;
  });
}

Json SpecJson(const model::DecoderSpec& spec) {
  const model::AttentionSpec& attention = spec.layers.front().attention;
  const model::MlpSpec& mlp = spec.layers.front().mlp;
  return {{"family", spec.family},
          {"layers", spec.layers.size()},
          {"hidden", spec.hidden},
          {"vocabulary", spec.vocab},
          {"context", spec.max_position},
          {"tied_head", spec.tied_head},
          {"q_heads", attention.q_heads},
          {"kv_heads", attention.kv_heads},
          {"head_dim", attention.head_dim},
          {"window", attention.window},
          {"rope_theta", attention.rope.theta},
          {"intermediate", mlp.intermediate},
          {"gated", mlp.gated}};
}

// 1234567 → "1,234,567"
std::string Grouped(int64_t number) {
  std::string digits = absl::StrCat(number);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string SpecText(const ModelReport& report) {
  const model::DecoderSpec& spec = report.spec;
  const model::AttentionSpec& attention = spec.layers.front().attention;
  const model::MlpSpec& mlp = spec.layers.front().mlp;
  return absl::StrFormat(
      "%s: %s, %s parameters\n"
      "  %d layers, hidden %d, vocabulary %s, context %s%s\n"
      "  attention: %d heads, %d KV heads of %d%s, rope theta %g\n"
      "  MLP: %d%s\n",
      report.name, spec.family, Grouped(report.parameters), spec.layers.size(), spec.hidden, Grouped(spec.vocab),
      Grouped(spec.max_position), spec.tied_head ? ", head tied to the embedding" : "", attention.q_heads, attention.kv_heads,
      attention.head_dim, attention.window > 0 ? absl::StrCat(", window ", attention.window) : "", attention.rope.theta,
      mlp.intermediate, mlp.gated ? ", gated" : "");
}

std::string TensorsText(const ModelReport& report) {
  if (report.tensors.empty()) return "";
  size_t width = 0;
  for (const loader::TensorInfo& tensor : report.tensors) width = std::max(width, tensor.name.size());
  std::string out = absl::StrFormat("\n%-*s  %-6s  %s\n", width, "tensor", "type", "shape");
  for (const loader::TensorInfo& tensor : report.tensors) {
    absl::StrAppendFormat(&out, "%-*s  %-6s  %s\n", width, tensor.name, NameOf(tensor.dtype), loader::ShapeText(tensor.shape));
  }
  return out;
}

std::string MemoryText(const ModelReport& report) {
  std::string out = "\nweights, bytes of each rank\n      ";
  for (const int ranks : kRankCounts) absl::StrAppendFormat(&out, "%20s", absl::StrCat("tp ", ranks));
  for (const ModelReport::WeightBytes& row : report.weights) {
    absl::StrAppendFormat(&out, "\n  %-4s", row.dtype);
    for (const int64_t bytes : row.per_rank) absl::StrAppendFormat(&out, "%20s", bytes < 0 ? "-" : Grouped(bytes));
  }
  if (report.stored_bytes > 0) absl::StrAppendFormat(&out, "\n  as stored: %s", Grouped(report.stored_bytes));
  absl::StrAppendFormat(&out, "\ndtype on a GPU: %s\nKV cache: %s bytes per token, of each of %d ranks\n", NameOf(report.dtype),
                        Grouped(report.kv_bytes_per_token), report.ranks);
  if (report.memory > 0) {
    absl::StrAppendFormat(&out, "largest context in %s bytes: %s tokens\n", Grouped(report.memory),
                          Grouped(report.largest_context));
  }
  return out;
}

constexpr std::string_view kFormats[][2] = {
    {"safetensors", "a Hugging Face directory: config.json, model.safetensors (or its shards and their index), a tokenizer"},
    {"gguf", "one file, or the first of several (NAME-00001-of-0000N.gguf)"},
    {"workspace", "a directory that berth convert made"},
};

}  // namespace

absl::StatusOr<ModelReport> Inspect(const InspectOptions& options) {
  const bool has_weights = HasWeights(options.model);
  BERTH_ASSIGN_OR_RETURN(
      loader::ModelFiles files,
      loader::OpenModel(options.model, has_weights ? loader::LoadFormat::kCheckpoint : loader::LoadFormat::kRandom));
  ModelReport report{.name = files.name.empty() ? loader::ModelName(options.model) : files.name,
                     .dtype = options.dtype.value_or(files.preferred_dtype),
                     .ranks = options.ranks,
                     .memory = options.memory};
  std::map<int, bool> divides;
  for (const int ranks : kRankCounts) {
    const absl::Status status = has_weights
                                    ? loader::BuildPlan(files.spec, files.rules, files.checkpoint.tensors, {0, ranks}).status()
                                    : absl::OkStatus();
    if (ranks == 1) BERTH_RETURN_IF_ERROR(status);
    divides[ranks] = status.ok();
  }
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    ModelReport::WeightBytes& row = report.weights.emplace_back();
    row.dtype = NameOf(dtype);
    for (const int ranks : kRankCounts) row.per_rank.push_back(divides[ranks] ? WeightBytes(files.spec, dtype, ranks) : -1);
  }
  const Elements elements = CountElements(files.spec, 1);
  report.parameters = elements.matrices + elements.vectors;
  for (loader::TensorInfo& tensor : files.checkpoint.tensors) {
    report.stored_bytes += static_cast<int64_t>(tensor.data.size());
    tensor.data = {};
  }
  report.spec = std::move(files.spec);
  report.tensors = std::move(files.checkpoint.tensors);
  report.kv_bytes_per_token = KvBytesPerToken(report.spec, report.dtype, report.ranks);
  if (report.memory > 0) BERTH_RETURN_IF_ERROR(FitContext(report));
  return report;
}

std::string ReportJson(const ModelReport& report) {
  Json out = {{"name", report.name}, {"spec", SpecJson(report.spec)}, {"parameters", report.parameters}};
  for (const loader::TensorInfo& tensor : report.tensors) {
    out["tensors"].push_back({{"name", tensor.name}, {"dtype", NameOf(tensor.dtype)}, {"shape", tensor.shape}});
  }
  out["stored_bytes"] = report.stored_bytes;
  for (const ModelReport::WeightBytes& row : report.weights) {
    for (size_t i = 0; i < row.per_rank.size(); ++i) {
      if (row.per_rank[i] >= 0) out["weight_bytes"][row.dtype][absl::StrCat(kRankCounts[i])] = row.per_rank[i];
    }
  }
  out["kv"] = {{"dtype", NameOf(report.dtype)}, {"ranks", report.ranks}, {"bytes_per_token", report.kv_bytes_per_token}};
  if (report.memory > 0) out["fits"] = {{"memory", report.memory}, {"context", report.largest_context}};
  return out.dump(2);
}

std::string ReportText(const ModelReport& report) {
  return absl::StrCat(SpecText(report), TensorsText(report), MemoryText(report));
}

std::string ListJson() {
  Json out = {{"families", Json::object()}, {"formats", Json::object()}};
  for (const model::Family* family : model::Families()) {
    Json& names = out["families"][std::string(family->name)] = Json::array();
    for (const std::string_view architecture : family->architectures) names.push_back(std::string(architecture));
  }
  for (const auto& [name, what] : kFormats) out["formats"][std::string(name)] = std::string(what);
  return out.dump(2);
}

std::string ListText() {
  std::string out = "families, and the architectures of config.json that they run\n";
  for (const model::Family* family : model::Families()) {
    const std::vector<std::string> names(family->architectures.begin(), family->architectures.end());
    absl::StrAppendFormat(&out, "  %-12s %s\n", family->name, absl::StrJoin(names, ", "));
  }
  absl::StrAppend(&out, "formats\n");
  for (const auto& [name, what] : kFormats) absl::StrAppendFormat(&out, "  %-12s %s\n", name, what);
  return out;
}

}  // namespace berth::cli
