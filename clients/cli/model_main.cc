#include <cstdio>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "clients/cli/inspect.h"
#include "clients/cli/model_name.h"
#include "clients/cli/parse_line.h"
#include "clients/cli/progress_bar.h"
#include "worker/loader/convert.h"

namespace berth::cli {
namespace {

struct Flags {
  loader::ConvertOptions convert;
  InspectOptions inspect;
  std::string model, dtype = "auto";
  bool json = false;
};

absl::Status RunConvert(Flags flags) {
  BERTH_ASSIGN_OR_RETURN(const std::string path, ResolveModel(flags.model, getenv));
  flags.convert.dtype = kernels::FindDType(flags.dtype);
  ProgressBar bar;
  flags.convert.progress = [&bar](uint64_t done, uint64_t total) { bar.Show(done, total); };
  BERTH_ASSIGN_OR_RETURN(const loader::Conversion done, loader::ConvertModel(path, flags.convert));
  const std::string reused =
      done.reused > 0 ? absl::StrFormat(", of which %d were there from a conversion before", done.reused) : "";
  std::cout << absl::StrFormat("%s: %d bytes of weights%s", flags.convert.destination, done.bytes, reused) << std::endl;
  return absl::OkStatus();
}

absl::Status RunInspect(Flags flags) {
  BERTH_ASSIGN_OR_RETURN(flags.inspect.model, ResolveModel(flags.model, getenv));
  flags.inspect.dtype = kernels::FindDType(flags.dtype);
  BERTH_ASSIGN_OR_RETURN(const ModelReport report, Inspect(flags.inspect));
  std::cout << (flags.json ? ReportJson(report) : ReportText(report)) << std::endl;
  return absl::OkStatus();
}

int Run(int argc, char** argv) {
  Flags flags;
  CLI::App app("Looks after models on disk", "berth");
  app.footer(kExitCodes);
  app.require_subcommand(1);
  constexpr const char* kModel = "A GGUF file, a Hugging Face directory, or org/model of the Hugging Face hub";
  const auto dtypes = CLI::IsMember({"auto", "bf16", "f16", "f32"});
  CLI::App& convert = *app.add_subcommand("convert", "Write a model in the form that workers map: loads in no time");
  convert.add_option("model", flags.model, kModel)->required();
  convert.add_option("--dst-path,--dst_path", flags.convert.destination, "The workspace to make")->default_val("workspace");
  convert.add_option("--tp", flags.convert.ranks, "GPUs that share each weight")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  convert.add_option("--dtype", flags.dtype, "Of matrices: auto (as they are), bf16, f16 or f32")
      ->check(dtypes)
      ->capture_default_str();
  CLI::App& list = *app.add_subcommand("list", "The families and formats that Berth runs");
  list.add_flag("--json", flags.json, "As JSON");
  CLI::App& inspect = *app.add_subcommand("inspect", "What is in a model, and the memory that it takes");
  inspect.add_option("model", flags.model, kModel)->required();
  inspect.add_option("--tp", flags.inspect.ranks, "GPUs that share the model")->check(CLI::Range(1, 64))->capture_default_str();
  inspect.add_option("--dtype", flags.dtype, "Of weights and KV on a GPU: auto (what suits the model), bf16, f16 or f32")
      ->check(dtypes)
      ->capture_default_str();
  inspect.add_option("--memory", flags.inspect.memory, "Of each GPU, as 80GB or 75GiB: the largest context that fits in it")
      ->transform(CLI::AsSizeValue(true));
  inspect.add_flag("--json", flags.json, "As JSON");
  if (const auto code = ParseLine(app, argc, argv)) return *code;

  absl::Status status;
  if (convert.parsed()) {
    status = RunConvert(flags);
  } else if (inspect.parsed()) {
    status = RunInspect(flags);
  } else {
    std::cout << (flags.json ? ListJson() : ListText()) << std::endl;
  }
  return ExitCode(status);
}

}  // namespace
}  // namespace berth::cli

// berth-model: `berth convert`, `berth list` and `berth inspect`.
int main(int argc, char** argv) { return berth::cli::Run(argc, argv); }
