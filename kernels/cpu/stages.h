#pragma once

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace berth::kernels::cpu {

// The stage ops of kernels/ops.h, one file each; arguments are checked by Ops. Activations are f32.
void Embed(Context& context, const EmbedArgs& args);
void Gather(Context& context, const GatherArgs& args);
void AttnIn(Context& context, const AttnInArgs& args);
void LatentIn(Context& context, const LatentInArgs& args);
void Attend(Context& context, const AttendArgs& args);
void LatentOut(Context& context, const LatentOutArgs& args);
void ProjectOut(Context& context, const ProjectOutArgs& args);
void MlpUp(Context& context, const MlpUpArgs& args);
void Moe(Context& context, const MoeArgs& args);
void Head(Context& context, const HeadArgs& args);
void Pool(Context& context, const PoolArgs& args);
void Admit(Context& context, const AdmitArgs& args);
void Sample(Context& context, const SampleArgs& args);

}  // namespace berth::kernels::cpu
