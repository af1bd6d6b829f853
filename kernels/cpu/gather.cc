#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {

void Gather(Context& context, const GatherArgs& args) {
  ForRows(context, args.row.dim(0), [&](int64_t r, int) {
    const int32_t from = args.row.data<int32_t>()[r];
    BERTH_CHECK(from >= 0 && from < args.in.dim(0)) << "row " << from << " of " << args.in.DebugString();
    std::copy_n(args.in.data<float>() + from * args.in.stride(0), args.in.dim(1),
                args.out.data<float>() + r * args.out.stride(0));
  });
}

}  // namespace berth::kernels::cpu
