#include "gateway/discovery/discovery.h"

#include <utility>

#include "absl/strings/strip.h"
#include "base/status.h"
#include "gateway/discovery/dns_source.h"
#include "gateway/discovery/file_source.h"

namespace berth::discovery {

absl::StatusOr<std::unique_ptr<Discovery>> Discovery::Make(DiscoveryOptions options) {
  auto discovery = std::unique_ptr<Discovery>(new Discovery(std::move(options)));
  absl::string_view text = discovery->options_.workers;
  if (absl::ConsumePrefix(&text, "file:")) {
    BERTH_ASSIGN_OR_RETURN(discovery->first_, ReadWorkerFile(std::string(text)));
  } else if (absl::ConsumePrefix(&text, "dns:") || absl::ConsumePrefix(&text, "srv:")) {
    BERTH_RETURN_IF_ERROR(ParseDnsNames(discovery->options_.workers).status());
  } else {
    BERTH_ASSIGN_OR_RETURN(discovery->first_, routing::ParseWorkerList(discovery->options_.workers));
  }
  return discovery;
}

void Discovery::Start(OnWorkers on_workers) {
  absl::string_view text = options_.workers;
  if (absl::ConsumePrefix(&text, "file:")) {
    source_ = std::make_unique<FileSource>(std::string(text), first_, std::move(on_workers));
  } else if (absl::ConsumePrefix(&text, "dns:") || absl::ConsumePrefix(&text, "srv:")) {
    source_ = std::make_unique<DnsSource>(*ParseDnsNames(options_.workers), options_.dns_server, options_.dns_interval,
                                          std::move(on_workers));
  }
}

}  // namespace berth::discovery
