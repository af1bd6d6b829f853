#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "gateway/http/exchange.h"

namespace berth::http {

// Sends all `requests` at once. `done` gets the answers in their order, on the exchange's strand; the first error fails the
// exchange instead.
template <typename Request, typename Response, typename Done>
void AskWorkers(Exchange& exchange, WorkerCalls::Call<Request, Response> WorkerCalls::*call, std::vector<Request> requests,
                Done done) {
  if (requests.empty()) return done(exchange, std::vector<Response>());
  struct Asked {
    Done done;
    std::vector<Response> responses;
    size_t missing;
    bool failed = false;
  };
  auto asked = std::make_shared<Asked>(
      Asked{.done = std::move(done), .responses = std::vector<Response>(requests.size()), .missing = requests.size()});
  // Weakly: a worker's answer may come when the server is gone.
  exchange.context().generation.shard.Post([weak = exchange.weak_from_this(), call, requests = std::move(requests), asked] {
    const auto self = weak.lock();
    for (size_t i = 0; self != nullptr && i < requests.size(); ++i) {
      (self->context().workers.*call)(self->tenant()->name, requests[i],
                                      [weak, asked, i](const absl::Status& status, const Response& response) {
                                        const auto self = weak.lock();
                                        if (self == nullptr || asked->failed) return;
                                        asked->failed = !status.ok();
                                        if (!status.ok()) return self->Post([self, status] { self->Fail(status); });
                                        asked->responses[i] = response;
                                        if (--asked->missing == 0)
                                          self->Post([self, asked] { asked->done(*self, std::move(asked->responses)); });
                                      });
    }
  });
}

}  // namespace berth::http
