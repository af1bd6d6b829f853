#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace berth::gateway {

// A blocking HTTP/1.1 client on one connection, as raw as the tests need it.
class HttpClient {
 public:
  struct Response {
    int status = 0;
    std::string head, body;
    bool Has(std::string_view text) const { return body.find(text) != std::string::npos; }
  };

  explicit HttpClient(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval timeout{.tv_sec = 20};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  }
  ~HttpClient() { Close(); }

  void Close() { close(std::exchange(socket_, -1)); }

  // False when the peer takes no more.
  bool Send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(sent);
    }
    return true;
  }
  void Post(const std::string& path, const std::string& body, const std::string& headers = "") {
    Send(absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Length: ", body.size(), "\r\n", headers, "\r\n", body));
  }
  Response Get(const std::string& path) {
    Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n"));
    return Receive();
  }
  Response PostAndReceive(const std::string& path, const std::string& body, const std::string& headers = "") {
    Post(path, body, headers);
    return Receive();
  }

  Response Receive() {
    Response response = ReceiveHead();
    if (response.head.find("chunked") != std::string::npos) {
      while (true) {
        const std::string chunk = ReceiveChunk();
        if (chunk.empty()) break;
        response.body += chunk;
      }
    } else {
      const size_t at = absl::AsciiStrToLower(response.head).find("content-length: ");
      if (at != std::string::npos) response.body = Take(std::stoul(response.head.substr(at + 16)));
    }
    return response;
  }
  Response ReceiveHead() {
    Response response{.head = TakeUntil("\r\n\r\n")};
    if (response.head.size() > 12) response.status = std::stoi(response.head.substr(9, 3));
    return response;
  }
  // Empty at the end of the body.
  std::string ReceiveChunk() {
    const std::string size = TakeUntil("\r\n");
    if (size.empty()) return "";
    std::string chunk = Take(std::stoul(size, nullptr, 16) + 2);
    chunk.resize(chunk.size() < 2 ? 0 : chunk.size() - 2);
    return chunk;
  }
  // The peer has closed the connection.
  bool AtEnd() { return buffer_.empty() && !Fill(); }

 private:
  bool Fill() {
    char block[65536];
    const ssize_t got = recv(socket_, block, sizeof(block), 0);
    if (got > 0) buffer_.append(block, got);
    return got > 0;
  }
  std::string Take(size_t bytes) {
    while (buffer_.size() < bytes && Fill()) continue;
    std::string taken = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return taken;
  }
  std::string TakeUntil(const std::string& end) {
    while (buffer_.find(end) == std::string::npos && Fill()) continue;
    const size_t at = buffer_.find(end);
    if (at == std::string::npos) return "";
    std::string taken = buffer_.substr(0, at);
    buffer_.erase(0, at + end.size());
    return taken;
  }

  int socket_;
  std::string buffer_;
};

}  // namespace berth::gateway
