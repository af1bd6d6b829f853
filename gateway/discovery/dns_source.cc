#include "gateway/discovery/dns_source.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace berth::discovery {
namespace {

constexpr int kTimeoutMs = 1000;
constexpr int kTries = 2;

std::string FirstLabel(std::string_view name) { return std::string(name.substr(0, name.find('.'))); }

}  // namespace

// The answers to one set of questions.
struct DnsSource::Round {
  struct Question {
    Round* round;
    const DnsName* name;
  };

  void Add(std::string_view host, int port) {
    workers.push_back({.id = FirstLabel(host), .address = absl::StrCat(std::string(host), ":", port)});
  }
  void Fail(const DnsName& name, std::string_view why) {
    error = absl::UnavailableError(absl::StrCat("DNS name ", name.name, ": ", std::string(why)));
  }
  // True when there is an answer to be read.
  bool Answered(const DnsName& name, int status) {
    --open;
    if (status == ARES_SUCCESS) return true;
    if (status != ARES_ENOTFOUND && status != ARES_ENODATA) Fail(name, ares_strerror(status));
    return false;
  }

  static void OnAddress(void* arg, int status, int /*timeouts*/, ares_addrinfo* found) {
    const auto& [round, name] = *static_cast<Question*>(arg);
    if (!round->Answered(*name, status)) return;
    int of_family[2] = {};  // IPv4, IPv6
    for (const ares_addrinfo_node* node = found->nodes; node != nullptr; node = node->ai_next) {
      ++of_family[node->ai_family == AF_INET6];
    }
    if (std::max(of_family[0], of_family[1]) > 1) {
      round->Fail(*name, "has several addresses, a worker has one");
    } else {
      round->Add(name->name, name->port);
    }
    ares_freeaddrinfo(found);
  }
  static void OnService(void* arg, int status, int /*timeouts*/, unsigned char* answer, int bytes) {
    const auto& [round, name] = *static_cast<Question*>(arg);
    if (!round->Answered(*name, status)) return;
    ares_srv_reply* targets = nullptr;
    if (const int parsed = ares_parse_srv_reply(answer, bytes, &targets); parsed != ARES_SUCCESS && parsed != ARES_ENODATA) {
      round->Fail(*name, ares_strerror(parsed));
    }
    for (const ares_srv_reply* target = targets; target != nullptr; target = target->next) {
      round->Add(target->host, target->port);
    }
    ares_free_data(targets);
  }

  std::vector<Question> questions;
  int open = 0;
  std::vector<routing::WorkerAddress> workers;
  absl::Status error;
};

absl::StatusOr<std::vector<DnsName>> ParseDnsNames(std::string_view text) {
  const bool services = text.starts_with("srv:");
  std::vector<DnsName> names;
  const std::vector<std::string> entries = absl::StrSplit(std::string(text.substr(4)), ',');
  for (const std::string& entry : entries) {
    DnsName name{.name = entry};
    const size_t colon = entry.find(':');
    if (!services) {
      name.name = entry.substr(0, colon);
      if (colon == std::string::npos || !absl::SimpleAtoi(entry.substr(colon + 1), &name.port) || name.port < 1 ||
          name.port > 65535) {
        return absl::InvalidArgumentError(absl::StrCat("DNS name \"", entry, "\" is not of the form host:port"));
      }
    }
    if (name.name.empty() || (services && colon != std::string::npos)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", entry, "\" is not a DNS name"));
    }
    names.push_back(std::move(name));
  }
  return names;
}

DnsSource::DnsSource(std::vector<DnsName> names, std::string server, absl::Duration interval, OnWorkers on_workers)
    : names_(std::move(names)), server_(std::move(server)), interval_(interval), on_workers_(std::move(on_workers)) {
  ares_library_init(ARES_LIB_INIT_ALL);
  thread_ = std::thread([this] { Run(); });
}

DnsSource::~DnsSource() {
  stop_.Set();
  thread_.join();
  ares_library_cleanup();
}

void DnsSource::Run() {
  pollfd stop = {.fd = stop_.fd(), .events = POLLIN};
  do {
    Round round;
    // A channel of its own for each round: the system's servers may have changed.
    ares_options options = {};
    options.timeout = kTimeoutMs;
    options.tries = kTries;
    int status = ares_init_options(&channel_, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    if (status == ARES_SUCCESS && !server_.empty()) status = ares_set_servers_ports_csv(channel_, server_.c_str());
    if (status != ARES_SUCCESS) {
      round.error = absl::UnavailableError(absl::StrCat("DNS server \"", server_, "\": ", ares_strerror(status)));
    }
    const bool goes_on = status != ARES_SUCCESS || Ask(round);
    ares_destroy(channel_);
    channel_ = nullptr;
    if (!goes_on) return;
    Report(round);
  } while (poll(&stop, 1, static_cast<int>(absl::ToInt64Milliseconds(interval_))) == 0);
}

bool DnsSource::Ask(Round& round) {
  round.open = static_cast<int>(names_.size());
  for (const DnsName& name : names_) round.questions.push_back({&round, &name});
  for (Round::Question& question : round.questions) {
    if (question.name->port == 0) {
      ares_query(channel_, question.name->name.c_str(), ns_c_in, ns_t_srv, &Round::OnService, &question);
    } else {
      const ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT, .ai_family = AF_UNSPEC};
      ares_getaddrinfo(channel_, question.name->name.c_str(), nullptr, &hints, &Round::OnAddress, &question);
    }
  }
  while (round.open > 0) {
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    const int mask = ares_getsock(channel_, sockets, ARES_GETSOCK_MAXNUM);
    std::vector<pollfd> fds = {{.fd = stop_.fd(), .events = POLLIN}};
    for (int i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
      const bool reads = ARES_GETSOCK_READABLE(mask, i) != 0, writes = ARES_GETSOCK_WRITABLE(mask, i) != 0;
      if (!reads && !writes) continue;
      fds.push_back({.fd = sockets[i], .events = static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))});
    }
    timeval wait = {.tv_sec = 1};
    ares_timeout(channel_, &wait, &wait);
    poll(fds.data(), fds.size(), static_cast<int>(wait.tv_sec * 1000 + wait.tv_usec / 1000 + 1));
    if (fds[0].revents != 0) return false;
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) ares_process_fd(channel_, fds[i].fd, (fds[i].events & POLLOUT) ? fds[i].fd : ARES_SOCKET_BAD);
    }
  }
  return true;
}

void DnsSource::Report(Round& round) {
  std::sort(round.workers.begin(), round.workers.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  const auto twice =
      std::adjacent_find(round.workers.begin(), round.workers.end(), [](const auto& a, const auto& b) { return a.id == b.id; });
  if (!round.error.ok()) return on_workers_(round.error);
  if (round.workers.empty()) return on_workers_(absl::NotFoundError("DNS names no worker"));
  if (twice != round.workers.end()) {
    return on_workers_(absl::InvalidArgumentError(
        absl::StrCat("DNS names two workers \"", twice->id, "\": ", twice->address, " and ", (twice + 1)->address)));
  }
  if (round.workers == last_) return;
  last_ = round.workers;
  on_workers_(std::move(round.workers));
}

}  // namespace berth::discovery
