#pragma once

#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gateway/discovery/source.h"
#include "gateway/discovery/stop_event.h"

struct ares_channeldata;

namespace berth::discovery {

struct DnsName {
  std::string name;
  // Of the worker; 0: the name has SRV records, which tell.
  int port = 0;
};

// "dns:host:port,…" or "srv:name,…". INVALID_ARGUMENT names the entry that is malformed.
absl::StatusOr<std::vector<DnsName>> ParseDnsNames(std::string_view text);

// Asks for all names at once, again and again, and reports every list that is unlike the one before. A name that does not exist
// is no worker; a name without an answer, two addresses of one name, or a list of nobody is an error. Workers keep their names
// as addresses, so that certificates fit and a link that is opened again resolves again.
class DnsSource : public Source {
 public:
  DnsSource(std::vector<DnsName> names, std::string server, absl::Duration interval, OnWorkers on_workers);
  ~DnsSource() override;

 private:
  struct Round;

  void Run();
  // False when it was told to stop.
  bool Ask(Round& round);
  void Report(Round& round);

  const std::vector<DnsName> names_;
  const std::string server_;
  const absl::Duration interval_;
  const OnWorkers on_workers_;
  std::vector<routing::WorkerAddress> last_;
  StopEvent stop_;
  ares_channeldata* channel_ = nullptr;
  std::thread thread_;
};

}  // namespace berth::discovery
