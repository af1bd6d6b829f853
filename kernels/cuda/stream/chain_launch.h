#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>

#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/chain_params.cuh"

namespace berth::kernels::cuda::stream {

// Products that run one after the other as one kernel.
template <typename T>
class Chain : public PendingProducts {
 public:
  int links() const { return params_.links; }

  // Whether the product can come after those there: what its epilogue prepares must not depend on the last of them.
  template <typename Epilogue>
  bool Takes(const Epilogue&) const {
    return !std::is_same_v<Epilogue, StoreEpilogue<T>> || params_.link[params_.links - 1].kind != LinkKind::kStore;
  }

  template <typename Epilogue>
  void Add(const LinkProduct& product, const Epilogue& epilogue) {
    ChainLink<T>& link = params_.link[params_.links++];
    link.product = product;
    link.Set(epilogue);
  }

  void Launch(Context& context) override;

 private:
  ChainParams<T> params_;
};

// Adds the product to those that wait; they start when they are as many as one kernel takes, or something else is queued.
template <typename T, typename Epilogue>
void AddToChain(Context& context, const LinkProduct& product, const Epilogue& epilogue) {
  auto* chain = dynamic_cast<Chain<T>*>(context.pending.get());
  if (chain == nullptr || !chain->Takes(epilogue)) {
    context.Flush();
    auto made = std::make_unique<Chain<T>>();
    chain = made.get();
    context.pending = std::move(made);
  }
  chain->Add(product, epilogue);
  if (chain->links() == std::min(kMaxLinks, context.stream_tuning.links)) context.Flush();
}

}  // namespace berth::kernels::cuda::stream
