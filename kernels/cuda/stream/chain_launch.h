#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/stream/chain_params.cuh"
#include "kernels/cuda/stream/stream.h"

namespace berth::kernels::cuda::stream {

// Products that run one after the other as one kernel.
template <typename T>
class Chain : public PendingProducts {
 public:
  int links() const { return params_.links; }

  // Whether the product can come after those there: it reads what the last of them makes, for which there is room.
  bool Takes(const Context& context, const LinkProduct& product) const {
    const ChainLink<T>& last = params_.link[params_.links - 1];
    const typename ChainLink<T>::Results results = last.results();
    return product.in == results.data && product.k == results.width &&
           product.in_stride == results.stride * int64_t{sizeof(T)} &&
           (product.row != nullptr || product.tokens == last.product.tokens) &&
           params_.used + HandedBytes(last.product.tokens, results.width) <= context.chain_set_bytes;
  }

  template <typename Epilogue>
  void Add(const LinkProduct& product, const Epilogue& epilogue) {
    if (params_.links > 0) HandOn(params_.link[params_.links - 1]);
    ChainLink<T>& link = params_.link[params_.links];
    link.product = product;
    link.Set(epilogue);
    const typename ChainLink<T>::Results results = link.results();
    for (int i = 0; i < params_.links && results.data != nullptr; ++i) {
      const typename ChainLink<T>::Results before = params_.link[i].results();
      if (results.data != before.data) continue;
      BERTH_CHECK(results.width == before.width) << results.width << " and " << before.width;  // each output has one thread
      if (link.kind == LinkKind::kStore && link.store.accumulate) link.adds_to = i;
    }
    ++params_.links;
  }

  void Launch(Context& context) override;

 private:
  void HandOn(ChainLink<T>& link) {
    link.handed_at = static_cast<uint32_t>(params_.used);
    link.handed_width = static_cast<uint32_t>(link.results().width);
    params_.used += HandedBytes(link.product.tokens, link.handed_width);
  }

  ChainParams<T> params_;
};

// Adds the product to those that wait; they start when they are as many as one kernel takes, or something else is queued.
template <typename T, typename Epilogue>
void AddToChain(Context& context, const LinkProduct& product, const Epilogue& epilogue) {
  auto* chain = dynamic_cast<Chain<T>*>(context.pending.get());
  if (chain == nullptr || !chain->Takes(context, product)) {
    context.Flush();
    auto made = std::make_unique<Chain<T>>();
    chain = made.get();
    context.pending = std::move(made);
  }
  chain->Add(product, epilogue);
  // Where layers are small, the second half of one begins sooner as a kernel of its own.
  const int most = SmallLayers(product.rows, product.k) ? 2 : kMaxLinks;
  if (chain->links() >= std::min(most, context.stream_tuning.links)) context.Flush();
}

}  // namespace berth::kernels::cuda::stream
