#include "gateway/discovery/dns_source.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gateway/discovery/discovery.h"
#include "tests/gateway/discovery/reports.h"

namespace berth::discovery {
namespace {

using routing::WorkerAddress;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A DNS server on loopback (RFC 1035, 2782) with A and SRV records; everything else does not exist.
class FakeDns {
 public:
  FakeDns() : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    socklen_t size = sizeof(address);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~FakeDns() {
    stop_.Set();
    thread_.join();
    close(socket_);
  }

  std::string server() const { return absl::StrCat("127.0.0.1:", port_); }
  // So many addresses of a name; 0: it does not exist.
  void SetAddresses(const std::string& name, int count) {
    base::MutexLock lock(mutex_);
    addresses_[name] = count;
  }
  void SetServices(const std::string& name, std::vector<std::pair<std::string, int>> targets) {
    base::MutexLock lock(mutex_);
    services_[name] = std::move(targets);
  }
  void SetBroken(bool broken) {
    base::MutexLock lock(mutex_);
    broken_ = broken;
  }

 private:
  static std::string U16(int value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }
  static std::string Name(const std::string& name) {
    std::string wire;
    for (absl::string_view label : absl::StrSplit(name, '.')) {
      wire += static_cast<char>(label.size());
      wire.append(label.data(), label.size());
    }
    return wire + '\0';
  }

  void Serve() {
    pollfd fds[] = {{.fd = stop_.fd(), .events = POLLIN}, {.fd = socket_, .events = POLLIN}};
    while (poll(fds, 2, -1) > 0 && fds[0].revents == 0) {
      char query[512];
      sockaddr_in from = {};
      socklen_t size = sizeof(from);
      const ssize_t bytes = recvfrom(socket_, query, sizeof(query), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (bytes < 17) continue;
      const std::string answer = Answer(std::string(query, bytes));
      sendto(socket_, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
  }

  std::string Answer(const std::string& query) {
    std::string name;
    size_t at = 12;
    for (int length; (length = query[at]) != 0; at += length + 1) {
      absl::StrAppend(&name, name.empty() ? "" : ".", query.substr(at + 1, length));
    }
    const int type = query[at + 2];
    const std::string question = query.substr(12, at + 5 - 12);
    base::MutexLock lock(mutex_);
    std::vector<std::string> data;
    if (type == 1) {
      for (int i = 0; i < addresses_[name]; ++i) data.push_back({10, 0, 0, static_cast<char>(1 + i)});
    } else if (type == 33) {
      for (const auto& [target, port] : services_[name]) data.push_back(U16(0) + U16(0) + U16(port) + Name(target));
    }
    const bool exists = addresses_[name] > 0 || !services_[name].empty();
    std::string answer = query.substr(0, 2) +
                         U16(0x8180 | (broken_  ? 2
                                       : exists ? 0
                                                : 3)) +
                         U16(1) + U16(data.size()) + U16(0) + U16(0) + question;
    for (const std::string& record : data) {
      answer += U16(0xc00c) + U16(type) + U16(1) + U16(0) + U16(0) + U16(record.size()) + record;
    }
    return answer;
  }

  const int socket_;
  int port_ = 0;
  StopEvent stop_;
  base::Mutex mutex_;
  std::map<std::string, int> addresses_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::pair<std::string, int>>> services_ ABSL_GUARDED_BY(mutex_);
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

constexpr absl::Duration kInterval = absl::Milliseconds(5);

TEST(DnsSourceTest, ANameIsAWorkerWhileItResolves) {
  FakeDns dns;
  dns.SetAddresses("w0.berth", 1);
  Reports reports;
  const DnsSource source(*ParseDnsNames("dns:w0.berth:7000,w1.berth:7001"), dns.server(), kInterval, reports.Sink());
  const WorkerAddress w0 = {"w0", "w0.berth:7000"}, w1 = {"w1", "w1.berth:7001"};
  EXPECT_THAT(*reports.Next(), ElementsAre(w0));
  dns.SetAddresses("w1.berth", 1);
  EXPECT_THAT(*reports.Next(), ElementsAre(w0, w1));
  dns.SetAddresses("w0.berth", 0);
  EXPECT_THAT(*reports.Next(), ElementsAre(w1));
}

TEST(DnsSourceTest, ServicesNameTheirTargets) {
  FakeDns dns;
  dns.SetServices("_grpc._tcp.berth", {{"w1.pods.berth", 7001}, {"w0.pods.berth", 7000}});
  Reports reports;
  const DnsSource source(*ParseDnsNames("srv:_grpc._tcp.berth"), dns.server(), kInterval, reports.Sink());
  EXPECT_THAT(*reports.Next(),
              ElementsAre(WorkerAddress{"w0", "w0.pods.berth:7000"}, WorkerAddress{"w1", "w1.pods.berth:7001"}));
}

TEST(DnsSourceTest, ABrokenServerAndAListOfNobodyAreErrors) {
  FakeDns dns;
  dns.SetServices("s.berth", {{"w0.berth", 7000}});
  Reports reports;
  const DnsSource source(*ParseDnsNames("srv:s.berth"), dns.server(), kInterval, reports.Sink());
  ASSERT_TRUE(reports.Next().ok());
  dns.SetBroken(true);
  EXPECT_EQ(reports.Next().status().code(), absl::StatusCode::kUnavailable);
  dns.SetServices("s.berth", {});
  dns.SetBroken(false);
  absl::Status status = reports.Next().status();
  while (status.code() == absl::StatusCode::kUnavailable) status = reports.Next().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST(DnsSourceTest, SeveralAddressesOfOneNameAreAnError) {
  FakeDns dns;
  dns.SetAddresses("w0.berth", 2);
  Reports reports;
  const DnsSource source(*ParseDnsNames("dns:w0.berth:7000"), dns.server(), kInterval, reports.Sink());
  EXPECT_THAT(std::string(reports.Next().status().message()), HasSubstr("w0.berth"));
}

TEST(DnsSourceTest, EndsWhileNobodyAnswers) {
  FakeDns dns;
  const int silent = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  ASSERT_EQ(bind(silent, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  socklen_t size = sizeof(address);
  getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size);
  Reports reports;
  {
    const DnsSource source(*ParseDnsNames("srv:s.berth"), absl::StrCat("127.0.0.1:", ntohs(address.sin_port)), kInterval,
                           reports.Sink());
    char query[512];
    EXPECT_GT(recv(silent, query, sizeof(query), 0), 0) << "it waits for an answer now";
  }
  close(silent);
}

TEST(ParseDnsNamesTest, NamesTheMalformedEntry) {
  EXPECT_EQ(ParseDnsNames("dns:a:1,b:2")->size(), 2u);
  for (const char* bad : {"dns:", "dns:a", "dns:a:0", "dns:a:x", "dns::1", "srv:", "srv:a:1", "srv:a,"}) {
    EXPECT_FALSE(ParseDnsNames(bad).ok()) << bad;
    EXPECT_FALSE(Discovery::Make({.workers = bad}).ok()) << bad;
  }
}

}  // namespace
}  // namespace berth::discovery
