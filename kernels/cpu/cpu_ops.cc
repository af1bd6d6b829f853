#include "kernels/cpu/cpu_ops.h"

#include "kernels/cpu/context.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels {
namespace {

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options) : context_(options.threads) {}

  // Calls are done when they return.
  absl::Status Sync() override { return absl::OkStatus(); }

 private:
  void DoEmbed(const EmbedArgs& args) override { cpu::Embed(context_, args); }
  void DoAttnIn(const AttnInArgs& args) override { cpu::AttnIn(context_, args); }
  void DoAttend(const AttendArgs& args) override { cpu::Attend(context_, args); }
  void DoProjectOut(const ProjectOutArgs& args) override { cpu::ProjectOut(context_, args); }
  void DoMlpUp(const MlpUpArgs& args) override { cpu::MlpUp(context_, args); }
  void DoHead(const HeadArgs& args) override { cpu::Head(context_, args); }
  void DoSample(const SampleArgs& args) override { cpu::Sample(context_, args); }

  cpu::Context context_;
};

}  // namespace

std::unique_ptr<Ops> MakeCpuOps(const CpuOpsOptions& options) { return std::make_unique<CpuOps>(options); }

}  // namespace berth::kernels
