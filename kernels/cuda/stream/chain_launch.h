#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <utility>

#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/chain_params.cuh"

namespace berth::kernels::cuda::stream {

// Products that run one after the other as one kernel, and attention between them.
template <typename T>
class Chain : public PendingProducts {
 public:
  int links() const { return params_.links; }

  // Whether the product can come after those there: what its epilogue prepares must not depend on the last of them.
  template <typename Epilogue>
  bool Takes(const Epilogue&) const {
    return !std::is_same_v<Epilogue, StoreEpilogue<T>> || attends() || params_.link[params_.links - 1].kind != LinkKind::kStore;
  }

  // Whether rows attend behind the last product.
  bool attends() const { return attend_.entries > 0; }
  // They do; or before the first one, if there is none. Not twice without a product between.
  void Attend(const AttendParams& params, int entries) { attend_ = {params, entries}; }

  template <typename Epilogue>
  void Add(const LinkProduct& product, const Epilogue& epilogue) {
    ChainLink<T>& link = params_.link[params_.links++];
    links_attend_ |= attends();
    link.attend = std::exchange(attend_, {});
    link.product = product;
    link.Set(epilogue);
  }

  void Launch(Context& context) override;

 private:
  template <bool kAttends>
  void LaunchLinks(Context& context);

  ChainParams<T, true> params_;
  bool links_attend_ = false;
  LinkAttend attend_;  // that no product follows yet
};

// The chain that is pending; a new one if there is none of which `suits` is true.
template <typename T, typename Suits>
Chain<T>& PendingChain(Context& context, Suits suits) {
  auto* chain = dynamic_cast<Chain<T>*>(context.pending.get());
  if (chain == nullptr || !suits(*chain)) {
    context.Flush();
    auto made = std::make_unique<Chain<T>>();
    chain = made.get();
    context.pending = std::move(made);
  }
  return *chain;
}

// Adds the product to those that wait; they start when they are as many as one kernel takes, or something else is queued.
template <typename T, typename Epilogue>
void AddToChain(Context& context, const LinkProduct& product, const Epilogue& epilogue) {
  Chain<T>& chain = PendingChain<T>(context, [&](const Chain<T>& pending) { return pending.Takes(epilogue); });
  chain.Add(product, epilogue);
  if (chain.links() == std::min(kMaxLinks, context.stream_tuning.links)) context.Flush();
}

}  // namespace berth::kernels::cuda::stream
