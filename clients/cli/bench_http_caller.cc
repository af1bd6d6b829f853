#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "clients/cli/bench_caller.h"
#include "clients/cli/http_answer.h"
#include "nlohmann/json.hpp"

namespace berth::cli {
namespace {

using json = nlohmann::json;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Address {
  sockaddr_storage where = {};
  socklen_t size = 0;
  std::string host;  // as the Host header has it
};

absl::StatusOr<Address> Resolve(const std::string& url) {
  absl::string_view host = url;
  if (!absl::ConsumePrefix(&host, "http://")) return absl::InvalidArgumentError(absl::StrCat(url, " is no http:// address"));
  absl::ConsumeSuffix(&host, "/");
  const size_t colon = host.rfind(':');
  const std::string name(host.substr(0, colon)), port(colon == absl::string_view::npos ? "80" : host.substr(colon + 1));
  const addrinfo hints{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(name.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(absl::StrCat(url, ": ", gai_strerror(error)));
  }
  Address address{.size = found->ai_addrlen, .host = std::string(host)};
  std::memcpy(&address.where, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

// One connection, and the request under way on it.
struct Exchange {
  FileDescriptor socket;
  std::string unsent;
  HttpAnswer answer = {};
  std::string refusal = {};  // the body of an answer other than 200
  absl::Status problem = {};
  absl::AnyInvocable<void(const BenchPart&)> on_part = nullptr;
  absl::AnyInvocable<void(const absl::Status&)> on_end = nullptr;  // null: idle
};

class HttpCaller : public BenchCaller {
 public:
  HttpCaller(BenchTarget target, Address address) : target_(std::move(target)), address_(std::move(address)) {
    Watch(wake_.get(), nullptr);
    thread_ = std::thread([this] { Loop(); });
  }
  ~HttpCaller() override {
    Post([this] { stopping_ = true; });
    thread_.join();
  }

  void Post(absl::AnyInvocable<void()> function) override {
    {
      base::MutexLock lock(mutex_);
      posted_.push_back(std::move(function));
    }
    eventfd_write(wake_.get(), 1);
  }
  void After(absl::Duration delay, absl::AnyInvocable<void()> function) override {
    timers_.emplace(base::SystemClock().Monotonic() + delay, std::move(function));
  }
  void Start(const BenchAsk& ask, absl::AnyInvocable<void(const BenchPart&)> on_part,
             absl::AnyInvocable<void(const absl::Status&)> on_end) override {
    Exchange& exchange = TakeConnection();
    exchange.unsent = RequestOf(ask);
    exchange.answer = {};
    exchange.on_part = std::move(on_part);
    exchange.on_end = std::move(on_end);
    // A failure is seen by the loop.
    if (!exchange.problem.ok()) return After(absl::ZeroDuration(), [this, &exchange] { End(exchange, exchange.problem); });
    Send(exchange);
  }

 private:
  void Watch(int fd, void* what) {
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = what}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }

  // One that is idle, or a new one.
  Exchange& TakeConnection() {
    for (const auto& [exchange, owned] : exchanges_) {
      if (owned->on_end == nullptr) return *owned;
    }
    auto made = std::make_unique<Exchange>(
        Exchange{.socket = FileDescriptor(socket(address_.where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))});
    Exchange& exchange = *made;
    exchanges_.emplace(&exchange, std::move(made));
    const int fd = exchange.socket.get(), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address_.where), address_.size) != 0 && errno != EINPROGRESS) {
      exchange.problem = Broken(errno);
    }
    Watch(fd, &exchange);
    return exchange;
  }

  absl::Status Broken(int error) const {
    return absl::UnavailableError(absl::StrCat(target_.server, ": ", error == 0 ? "the connection ended" : strerror(error)));
  }

  std::string RequestOf(const BenchAsk& ask) const {
    json body = {{"model", target_.model}, {"max_tokens", ask.output}, {"ignore_eos", true},
                 {"temperature", 0},       {"stream", true},           {"stream_options", {{"include_usage", true}}}};
    if (ask.messages.empty()) body["prompt"] = ask.ids;
    for (const BenchAsk::Message& said : ask.messages) {
      body["messages"].push_back({{"role", said.role}, {"content", said.content}});
    }
    const std::string text = body.dump();
    std::string head =
        absl::StrCat("POST /v1/", ask.messages.empty() ? "" : "chat/", "completions HTTP/1.1\r\nHost: ", address_.host,
                     "\r\nContent-Type: application/json\r\nContent-Length: ", text.size(), "\r\n");
    if (!ask.session_id.empty()) absl::StrAppend(&head, "X-Session-Id: ", ask.session_id, "\r\n");
    if (!target_.api_key.empty()) absl::StrAppend(&head, "Authorization: Bearer ", target_.api_key, "\r\n");
    return absl::StrCat(head, "\r\n", text);
  }

  void Send(Exchange& exchange) {
    while (!exchange.unsent.empty()) {
      const ssize_t sent = send(exchange.socket.get(), exchange.unsent.data(), exchange.unsent.size(), MSG_NOSIGNAL);
      if (sent < 0) return;  // it is full, not yet connected, or broken: the loop hears which
      exchange.unsent.erase(0, static_cast<size_t>(sent));
    }
  }

  void Receive(Exchange& exchange) {
    std::array<char, 65536> bytes;
    while (true) {
      const ssize_t read = recv(exchange.socket.get(), bytes.data(), bytes.size(), 0);
      if (read < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
      if (read <= 0) return End(exchange, Broken(read < 0 ? errno : 0));
      const absl::Status status = exchange.answer.Feed(absl::string_view(bytes.data(), static_cast<size_t>(read)),
                                                       [&](absl::string_view line) { TakeLine(exchange, line); });
      if (!status.ok()) return End(exchange, status);
      if (!exchange.answer.done()) continue;
      const int code = exchange.answer.code();
      if (code != 200) exchange.problem = absl::UnknownError(absl::StrCat("HTTP ", code, ": ", exchange.refusal));
      return End(exchange, exchange.problem);
    }
  }

  static void TakeLine(Exchange& exchange, absl::string_view line) {
    if (exchange.answer.code() != 200) {
      absl::StrAppend(&exchange.refusal, line);
      return;
    }
    if (!absl::ConsumePrefix(&line, "data:") || absl::StripLeadingAsciiWhitespace(line) == "[DONE]") return;
    const json event = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (event.is_discarded() || event.contains("error")) exchange.problem = absl::UnknownError(line);
    if (exchange.problem.ok()) TakeEvent(exchange, event);
  }

  static void TakeEvent(Exchange& exchange, const json& event) {
    std::string text;
    if (const json choices = event.value("choices", json::array()); !choices.empty()) {
      const json delta = choices[0].value("delta", json::object());
      const auto piece = [](const json& from, const char* name) {
        return from.contains(name) && from[name].is_string() ? from[name].get<std::string>() : "";
      };
      text = piece(choices[0], "text") + piece(delta, "reasoning_content") + piece(delta, "content");
    }
    BenchPart part{.tokens = text.empty() ? 0 : 1, .text = text};
    if (event.contains("usage") && event["usage"].is_object()) {
      const json& usage = event["usage"];
      part.prompt_tokens = usage.value("prompt_tokens", 0);
      part.output_tokens = usage.value("completion_tokens", 0);
      const auto details = usage.find("prompt_tokens_details");
      if (details != usage.end() && details->is_object()) part.cached_tokens = details->value("cached_tokens", 0);
    }
    exchange.on_part(part);
  }

  // The connection is kept after an answer that leaves it in order.
  void End(Exchange& exchange, const absl::Status& status) {
    auto on_end = std::exchange(exchange.on_end, nullptr);
    const absl::Status ended = status;
    if (!ended.ok() || !exchange.answer.done() || !exchange.answer.keeps_connection()) exchanges_.erase(&exchange);
    if (on_end != nullptr) on_end(ended);
  }

  void RunPosted() {
    eventfd_t count = 0;
    eventfd_read(wake_.get(), &count);
    std::vector<absl::AnyInvocable<void()>> posted;
    {
      base::MutexLock lock(mutex_);
      posted.swap(posted_);
    }
    for (auto& function : posted) function();
  }

  // Milliseconds until the next one, rounded up; -1: there is none.
  int RunDueTimers() {
    while (!timers_.empty()) {
      const absl::Duration left = timers_.begin()->first - base::SystemClock().Monotonic();
      if (left > absl::ZeroDuration())
        return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
      timers_.extract(timers_.begin()).mapped()();
    }
    return -1;
  }

  void Loop() {
    std::array<epoll_event, 64> events;
    while (!stopping_) {
      const int count = epoll_wait(epoll_.get(), events.data(), events.size(), RunDueTimers());
      for (int i = 0; i < count; ++i) {
        auto* const exchange = static_cast<Exchange*>(events[i].data.ptr);
        if (exchange == nullptr) {
          RunPosted();
        } else if (exchanges_.contains(exchange)) {  // else it ended by an earlier event
          Send(*exchange);
          Receive(*exchange);
        }
      }
    }
  }

  const BenchTarget target_;
  const Address address_;
  const FileDescriptor epoll_{epoll_create1(EPOLL_CLOEXEC)}, wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::map<Exchange*, std::unique_ptr<Exchange>> exchanges_;
  std::multimap<absl::Duration, absl::AnyInvocable<void()>> timers_;
  bool stopping_ = false;
  base::Mutex mutex_;
  std::vector<absl::AnyInvocable<void()>> posted_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchCaller>> MakeHttpCaller(const BenchTarget& target) {
  if (target.model.empty()) return absl::InvalidArgumentError("the model's name is needed over HTTP: --model");
  BERTH_ASSIGN_OR_RETURN(Address address, Resolve(target.server));
  return std::make_unique<HttpCaller>(target, std::move(address));
}

}  // namespace berth::cli
