#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/lru_map.h"
#include "gateway/relay/stream.h"
#include "gateway/routing/cluster_view.h"
#include "gateway/routing/router.h"
#include "proto/berth/v1/worker.pb.h"

namespace berth::relay {

// Asks a worker whether it holds a session; `done` runs later, on the relay's thread, soon also when nobody answers.
using SessionLookup =
    std::function<void(int worker, const v1::HasSessionRequest& request,
                       absl::AnyInvocable<void(const absl::Status& status, const v1::HasSessionResponse& response)> done)>;

// What is known of the place of one stream's session.
struct SessionSearch {
  // Of RouteRequest.
  bool moved = false;
  int held_by = -1;
  // The caller's hint led to `held_by`.
  bool hinted = false;

  // The locator's own: workers that are still to say whether they hold the session, and the best answer so far.
  bool begun = false;
  int lookups = 0;
  int holder = -1;
  uint64_t holder_version = 0;
  absl::Duration holder_idle;
};

// Where sessions are (rule 18): what this gateway remembers, and what workers say. Thread: one owner.
class SessionLocator {
 public:
  struct Options {
    // A session that is idle for this long goes to its first rank, if it is not there.
    absl::Duration move_idle;
    // Of the workers' sessions.
    absl::Duration session_ttl;
  };
  using Answer = std::function<void(int worker, const absl::Status& status, const v1::HasSessionResponse& response)>;

  // A null `lookup` asks nobody.
  SessionLocator(const Options& options, const routing::ClusterView& view, const base::Clock& clock, SessionLookup lookup);

  // Looks for the stream's session, once. True when workers are asked first: `answer` runs for each of them, on this thread,
  // and hands to Heard what it gets.
  bool Begin(const GenerationStream& stream, SessionSearch& search, const Answer& answer);
  // True with the last answer: now the search is over.
  bool Heard(const GenerationStream& stream, SessionSearch& search, int worker, const absl::Status& status,
             const v1::HasSessionResponse& response);

  // The stream's session, if it has one, was used at this worker now.
  void Note(const GenerationStream& stream, int worker);
  // For a call that concerns only this session: the worker that holds it, as far as it can be found, else its first rank; -1
  // when none that is attached serves the model. `done` runs at once, or later when workers are asked first.
  void Find(const v1::HasSessionRequest& session, std::function<void(int worker)> done) const;

 private:
  // A hint that the worker may prove wrong.
  struct Placement {
    int worker = -1;
    uint64_t incarnation = 0;
    absl::Duration used;
  };
  // Null when it is not known, or cannot be there any more.
  const Placement* Known(const routing::RouteRequest& request) const;
  // False when there is nobody to ask.
  bool Ask(const v1::HasSessionRequest& session, const routing::RouteRequest& request, int hinted, SessionSearch& search,
           const Answer& answer) const;
  // True with the last answer. Keeps the best in `search`.
  static bool Compare(SessionSearch& search, int worker, const absl::Status& status, const v1::HasSessionResponse& response);
  // The session was last used `idle` ago at `worker`: keeps it there, or moves it.
  void KeepOrMove(const GenerationStream& stream, SessionSearch& search, int worker, absl::Duration idle) const;
  int HintedWorker(const std::string& hint) const;
  uint64_t IncarnationOf(int worker) const;

  const Options options_;
  const routing::ClusterView& view_;
  const base::Clock& clock_;
  const SessionLookup lookup_;
  base::LruMap<uint64_t, Placement> placements_{size_t{1} << 17};  // by SessionKey
};

}  // namespace berth::relay
