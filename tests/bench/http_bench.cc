// The same generation over gRPC and over HTTP in turn, one at a time: what a caller waits for the first token and for the
// whole. Prints a line of JSON, in microseconds.
//
//   http_bench GRPC_HOST:PORT HTTP_PORT [pairs] [both | grpc | http]

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "nlohmann/json.hpp"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/rpc/process.h"

namespace {

using namespace berth;

constexpr int kWarmUp = 200, kTokens = 8;
constexpr char kPrompt[] = "once upon a time";

struct Figures {
  std::vector<double> first, whole;
  nlohmann::json Report() {
    nlohmann::json report;
    if (first.empty()) return report;
    for (const auto& [name, values] : {std::pair("first_token", &first), std::pair("whole", &whole)}) {
      std::sort(values->begin(), values->end());
      for (const double share : {0.5, 0.99}) {
        report[absl::StrCat(name, "_p", share * 100, "_us")] = (*values)[static_cast<size_t>(share * (values->size() - 1))];
      }
    }
    return report;
  }
};

[[noreturn]] void Fail(const std::string& problem) {
  std::fprintf(stderr, "http_bench: %s\n", problem.c_str());
  std::exit(1);
}

void Note(absl::Time start, absl::Time first, Figures& figures) {
  figures.first.push_back(absl::ToDoubleMicroseconds(first - start));
  figures.whole.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
}

void OverGrpc(v1::InferenceService::Stub& stub, Figures& figures) {
  v1::StreamGenerateRequest request;
  request.mutable_generation()->mutable_prompt()->set_text(kPrompt);
  request.mutable_generation()->mutable_stop()->set_max_tokens(kTokens);
  request.mutable_generation()->mutable_stop()->set_ignore_eos(true);
  grpc::ClientContext context;
  const absl::Time start = absl::Now();
  absl::Time first = absl::InfinitePast();
  const auto stream = stub.StreamGenerate(&context, request);
  for (v1::StreamGenerateResponse message; stream->Read(&message);) {
    if (first == absl::InfinitePast() && message.has_delta()) first = absl::Now();
  }
  if (const grpc::Status status = stream->Finish(); !status.ok()) Fail(status.error_message());
  Note(start, first, figures);
}

// A connection that is kept.
class HttpCaller {
 public:
  explicit HttpCaller(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Fail("cannot connect over HTTP");
    const std::string body =
        nlohmann::json{{"model", "sim"}, {"prompt", kPrompt}, {"max_tokens", kTokens}, {"ignore_eos", true}, {"stream", true}}
            .dump();
    request_ =
        absl::StrCat("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
  }
  ~HttpCaller() { close(socket_); }

  void Run(Figures& figures) {
    std::string answer;
    const absl::Time start = absl::Now();
    absl::Time first = absl::InfinitePast();
    if (send(socket_, request_.data(), request_.size(), 0) != static_cast<ssize_t>(request_.size())) Fail("cannot send");
    while (!absl::EndsWith(answer, "\r\n0\r\n\r\n")) {
      char bytes[16384];
      const ssize_t read = recv(socket_, bytes, sizeof(bytes), 0);
      if (read <= 0) Fail("the connection ended");
      answer.append(bytes, static_cast<size_t>(read));
      if (first == absl::InfinitePast() && absl::StrContains(answer, "data: ")) first = absl::Now();
    }
    if (!absl::StrContains(answer, "data: [DONE]")) Fail(answer);
    Note(start, first, figures);
  }

 private:
  const int socket_;
  std::string request_;
};

}  // namespace

int main(int argc, char** argv) {
  rpc::InitProcess();
  if (argc < 3) Fail("usage: http_bench GRPC_HOST:PORT HTTP_PORT [pairs] [both | grpc | http]");
  const int pairs = argc > 3 ? std::atoi(argv[3]) : 2000;
  const std::string over = argc > 4 ? argv[4] : "both";
  const auto stub = v1::InferenceService::NewStub(grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  HttpCaller http(std::atoi(argv[2]));
  Figures over_grpc, over_http;
  for (int i = 0; i < kWarmUp + pairs; ++i) {
    if (i == kWarmUp) over_grpc = over_http = {};
    if (over != "http") OverGrpc(*stub, over_grpc);
    if (over != "grpc") http.Run(over_http);
  }
  const nlohmann::json report = {{"requests", kWarmUp + pairs}, {"grpc", over_grpc.Report()}, {"http", over_http.Report()}};
  std::printf("%s\n", report.dump().c_str());
  return 0;
}
