#include "kernels/cpu/cpu_ops.h"

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels {
namespace {

// Calls are done when they return, so the queue is always empty.
class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options) : context_(options.threads) {}

  void Attach() override {}
  void Upload(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void Download(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void Mark(int mark) override { BERTH_CHECK(mark >= 0 && mark < kMarks) << "mark " << mark; }
  absl::Status Wait(int mark) override { return absl::OkStatus(); }
  absl::Status Sync() override { return absl::OkStatus(); }

  void BeginRecording() override {
    BERTH_CHECK(!recording_) << "recording already";
    recording_ = true;
    recordings_.emplace_back();
  }
  absl::StatusOr<int> EndRecording() override {
    BERTH_CHECK(recording_) << "not recording";
    recording_ = false;
    return static_cast<int>(recordings_.size()) - 1;
  }
  void Replay(int recording) override {
    for (const std::function<void()>& call : recordings_.at(recording)) call();
  }

 private:
  template <typename Args>
  void Queue(void (*stage)(cpu::Context&, const Args&), const Args& args) {
    if (!recording_) return stage(context_, args);
    recordings_.back().push_back([this, stage, args] { stage(context_, args); });
  }

  void DoEmbed(const EmbedArgs& args) override { Queue(cpu::Embed, args); }
  void DoGather(const GatherArgs& args) override { Queue(cpu::Gather, args); }
  void DoAttnIn(const AttnInArgs& args) override { Queue(cpu::AttnIn, args); }
  void DoLatentIn(const LatentInArgs& args) override { Queue(cpu::LatentIn, args); }
  void DoAttend(const AttendArgs& args) override { Queue(cpu::Attend, args); }
  void DoLatentOut(const LatentOutArgs& args) override { Queue(cpu::LatentOut, args); }
  void DoProjectOut(const ProjectOutArgs& args) override { Queue(cpu::ProjectOut, args); }
  void DoMlpUp(const MlpUpArgs& args) override { Queue(cpu::MlpUp, args); }
  void DoMoe(const MoeArgs& args) override { Queue(cpu::Moe, args); }
  void DoHead(const HeadArgs& args) override { Queue(cpu::Head, args); }
  void DoPool(const PoolArgs& args) override { Queue(cpu::Pool, args); }
  void DoAdmit(const AdmitArgs& args) override { Queue(cpu::Admit, args); }
  void DoSample(const SampleArgs& args) override { Queue(cpu::Sample, args); }

  cpu::Context context_;
  bool recording_ = false;
  std::vector<std::vector<std::function<void()>>> recordings_;
};

}  // namespace

std::unique_ptr<Ops> MakeCpuOps(const CpuOpsOptions& options) { return std::make_unique<CpuOps>(options); }

}  // namespace berth::kernels
