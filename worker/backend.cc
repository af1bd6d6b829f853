#include "worker/backend.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/status.h"
#include "spdlog/spdlog.h"
#include "worker/loader/model_files.h"
#include "worker/loader/model_loader.h"
#include "worker/runtime/cpu_executor.h"
#include "worker/runtime/sim_executor.h"
#include "worker/service/sim_model.h"
#include "worker/text/builtin_templates.h"
#include "worker/text/sim_tokenizer.h"

namespace berth::worker {
namespace {

constexpr int kCpuSlots = 16;

absl::StatusOr<Backend> MakeSimBackend(const WorkerOptions& options) {
  const SimOptions& sim = options.sim;
  Backend backend;
  const int length = options.session_len > 0 ? std::min(options.session_len, sim.max_length) : sim.max_length;
  BERTH_ASSIGN_OR_RETURN(backend.served,
                         service::MakeSimModel(options.model_name.empty() ? "sim" : options.model_name, length));
  backend.executor = std::make_unique<runtime::SimExecutor>(
      runtime::SimExecutorOptions{.device = {.limits = {.slots = sim.slots,
                                                        .kv_blocks = sim.kv_blocks,
                                                        .max_step_tokens = 512,
                                                        .max_length = length,
                                                        .max_depth = 2},
                                             .vocabulary = {.begin = text::SimVocabulary::kFirstPiece,
                                                            .end = text::SimVocabulary::kEnd,
                                                            .stop_probability = sim.stop_probability,
                                                            .script_begin = text::SimVocabulary::kFirstByte + 2,
                                                            .script_end = text::SimVocabulary::kFirstByte + 3,
                                                            .message = text::SimVocabulary::kMessage,
                                                            .opening_size = sizeof("assistant")}},
                                  .step_time = absl::Milliseconds(sim.step_ms),
                                  .prefill_tokens_per_second = sim.prefill_tokens_per_second,
                                  .faults = {.stall_after_tokens = sim.stall_after_tokens,
                                             .fail_after_tokens = sim.fail_after_tokens,
                                             .exit_after_tokens = sim.exit_after_tokens,
                                             .crash_on_token = sim.crash_on_token,
                                             .slow_factor = sim.slow_factor}});
  return backend;
}

// MemAvailable of /proc/meminfo; 0 when it cannot be read.
size_t FreeMemory() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  for (size_t kib = 0; file >> name >> kib;) {
    if (name == "MemAvailable:") return kib << 10;
    std::getline(file, unit);
  }
  return 0;
}

size_t KvBytes(const WorkerOptions& options) {
  constexpr size_t kDefault = size_t{512} << 20;
  if (options.kv_bytes > 0) return static_cast<size_t>(options.kv_bytes);
  if (options.cache_max_entry_count == 0) return kDefault;
  return static_cast<size_t>(static_cast<double>(FreeMemory()) * options.cache_max_entry_count);
}

// The chat template that --chat-template names, the checkpoint's own, or the family's; empty `source`: none.
absl::StatusOr<text::BuiltinTemplate> ChooseChatTemplate(const std::string& choice, const std::string& own,
                                                         const service::ServedModel& served) {
  if (choice.empty()) {
    if (!own.empty()) return text::BuiltinTemplate{.source = own};
    return text::FindBuiltinTemplate(text::BuiltinTemplateOf(served.family, [&](std::string_view token) {
      const int32_t id = served.tokenizer->IdOf(token);
      return id >= 0 && served.tokenizer->IsSpecial(id);
    }));
  }
  text::BuiltinTemplate built_in = text::FindBuiltinTemplate(choice);
  if (!built_in.source.empty()) return built_in;
  std::ifstream file(choice, std::ios::binary);
  const std::string source{std::istreambuf_iterator<char>(file), {}};
  if (!source.empty()) return text::BuiltinTemplate{.source = source};
  const std::vector<std::string_view> names = text::BuiltinTemplateNames();
  return absl::InvalidArgumentError(absl::StrCat("--chat-template is ", choice,
                                                 ", which is no file with a template and none of ",
                                                 absl::StrJoin(std::vector<std::string>(names.begin(), names.end()), ", ")));
}

// What the services have to know of the model; its tokenizer data moves away.
absl::StatusOr<service::ServedModel> MakeServedModel(const WorkerOptions& options, loader::LoadedModel& loaded) {
  service::ServedModel served;
  served.name = options.model_name.empty() ? loaded.name : options.model_name;
  served.family = loaded.spec.family;
  served.eos_ids = loaded.tokenizer.generation_eos_ids;
  if (served.eos_ids.empty() && loaded.tokenizer.eos_id >= 0) served.eos_ids = {loaded.tokenizer.eos_id};
  served.defaults = {.temperature = loaded.generation.do_sample ? loaded.generation.temperature : 0,
                     .top_p = loaded.generation.top_p,
                     .top_k = loaded.generation.top_k,
                     .repetition_penalty = loaded.generation.repetition_penalty};
  served.context_length = options.session_len > 0 ? options.session_len : loaded.spec.max_position;
  served.rope_lengths = loaded.spec.rope_lengths;
  served.fingerprint = loaded.fingerprint;
  if (options.batch_invariant) served.fingerprint = base::Hash64("batch-invariant", served.fingerprint);
  const std::string chat_template = loaded.tokenizer.chat_template;
  BERTH_ASSIGN_OR_RETURN(served.tokenizer, text::MakeTokenizer(std::move(loaded.tokenizer)));
  served.grammars = std::make_unique<service::GrammarStore>(*served.tokenizer);
  served.infill = text::FindInfillFormat(*served.tokenizer);
  if (served.tokenizer->size() > loaded.spec.vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", served.tokenizer->size(),
                                                   " tokens, but the model's vocabulary ", loaded.spec.vocab));
  }
  BERTH_ASSIGN_OR_RETURN(const text::BuiltinTemplate chosen, ChooseChatTemplate(options.chat_template, chat_template, served));
  for (const std::string_view token : chosen.stop_tokens) {
    const int32_t id = served.tokenizer->IdOf(token);
    if (id >= 0 && std::count(served.eos_ids.begin(), served.eos_ids.end(), id) == 0) served.eos_ids.push_back(id);
  }
  served.output_format = text::DetectOutputFormat(chosen.source);
  served.output_format.tools = text::ParseToolFormat(options.tool_call_parser).value_or(served.output_format.tools);
  if (!chosen.source.empty()) {
    const auto text_of = [&](int32_t id) { return id < 0 ? "" : std::string(served.tokenizer->TokenBytes(id, true)); };
    BERTH_ASSIGN_OR_RETURN(served.chat_template, text::ParseChatTemplate(chosen.source, text_of(served.tokenizer->bos_id()),
                                                                         text_of(served.tokenizer->eos_id())));
  }
  return served;
}

// Why the model cannot run on the GPU, or is not to.
absl::Status CheckGpu(const DeviceChoice& choice) {
  if (choice.cpu) return absl::FailedPreconditionError("--device is cpu");
  return runtime::CheckGpu(choice.index);
}

runtime::CpuExecutorOptions MakeCpuOptions(const WorkerOptions& options) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  runtime::CpuExecutorOptions cpu{.threads = options.cpu_threads > 0 ? options.cpu_threads : cores,
                                  .slots = options.max_batch_size > 0 ? options.max_batch_size : kCpuSlots,
                                  .kv_bytes = KvBytes(options),
                                  .session_len = options.session_len};
  if (options.step_tokens > 0) cpu.max_step_tokens = options.step_tokens;
  return cpu;
}

absl::StatusOr<Backend> MakeModelBackend(const WorkerOptions& options, const loader::Progress& progress) {
  BERTH_ASSIGN_OR_RETURN(const DeviceChoice choice, ParseDevice(options.device));
  const absl::Status gpu_usable = CheckGpu(choice);
  if (choice.cuda) BERTH_RETURN_IF_ERROR(gpu_usable);
  loader::LoadOptions load{
      .format = options.load_format == "random" ? loader::LoadFormat::kRandom : loader::LoadFormat::kCheckpoint,
      .seed = options.seed,
      .progress = progress};
  BERTH_ASSIGN_OR_RETURN(loader::ModelFiles files, loader::OpenModel(options.model, load.format));
  const runtime::GpuOptions gpu = MakeGpuOptions(options, choice.index, files.preferred_dtype);
  std::unique_ptr<kernels::WeightUploader> uploader;
  if (gpu_usable.ok()) {
    BERTH_ASSIGN_OR_RETURN(uploader, runtime::MakeGpuUploader(gpu));
    load.uploader = uploader.get();
    load.accept = runtime::CheckGpuModel;
  }
  BERTH_ASSIGN_OR_RETURN(loader::LoadedModel loading, loader::LoadModel(options.model, std::move(files), load));
  uploader.reset();
  auto loaded = std::make_shared<loader::LoadedModel>(std::move(loading));
  Backend backend;
  BERTH_ASSIGN_OR_RETURN(backend.served, MakeServedModel(options, *loaded));
  const runtime::RunnerModel model{
      .spec = loaded->spec, .weights = loaded->weights, .tokenizer_size = backend.served.tokenizer->size()};
  if (gpu_usable.ok()) {
    BERTH_ASSIGN_OR_RETURN(backend.executor, runtime::MakeGpuExecutor(model, gpu));
    backend.default_depth = backend.executor->limits().max_depth;
    const std::string dtype(kernels::Info(gpu.dtype).name);
    backend.served.fingerprint = base::Hash64(dtype, backend.served.fingerprint);
    spdlog::info("the model runs on GPU {} in {}", gpu.device, dtype);
    if (const std::string untuned = runtime::UntunedShapes(loaded->spec); !untuned.empty()) {
      spdlog::info("kernels for all shapes, which are not tuned, take {}", untuned);
    }
  } else {
    BERTH_ASSIGN_OR_RETURN(backend.executor, runtime::MakeCpuExecutor(model, MakeCpuOptions(options), base::SystemClock()));
    spdlog::info("the model runs on the CPU: {}", std::string(gpu_usable.message()));
  }
  backend.model = std::move(loaded);
  return backend;
}

}  // namespace

runtime::GpuOptions MakeGpuOptions(const WorkerOptions& options, int device, kernels::DType preferred) {
  runtime::GpuOptions gpu{.device = device,
                          .dtype = kernels::FindDType(options.dtype).value_or(preferred),
                          .generic_kernels = options.kernel_set == "generic",
                          .batch_invariant = options.batch_invariant,
                          .session_len = options.session_len,
                          .kv_bytes = static_cast<size_t>(options.kv_bytes)};
  if (options.max_batch_size > 0) gpu.slots = options.max_batch_size;
  if (options.step_tokens > 0) gpu.max_step_tokens = options.step_tokens;
  gpu.max_step_tokens = std::max(gpu.max_step_tokens, gpu.slots);
  if (options.cache_max_entry_count > 0) gpu.kv_share = options.cache_max_entry_count;
  return gpu;
}

absl::StatusOr<Backend> MakeBackend(const WorkerOptions& options, const loader::Progress& progress) {
  return options.sim.enabled ? MakeSimBackend(options) : MakeModelBackend(options, progress);
}

}  // namespace berth::worker
