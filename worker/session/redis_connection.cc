#include "worker/session/redis_connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/functional/function_ref.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/freer.h"
#include "base/status.h"
#include "hiredis/hiredis.h"

namespace berth::session {
namespace {

using base::Freer;

using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using Reader = std::unique_ptr<redisReader, Freer<redisReaderFree>>;
using Addresses = std::unique_ptr<addrinfo, Freer<freeaddrinfo>>;

absl::Status Failed(absl::string_view what) { return absl::UnavailableError(what); }

absl::Status TlsError(absl::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return Failed(absl::StrCat(what, ": ", reason == nullptr ? "TLS failed" : reason));
}

absl::Status Wait(int descriptor, short events, absl::Duration deadline) {
  pollfd entry = {.fd = descriptor, .events = events};
  while (true) {
    const absl::Duration left = deadline - base::SystemClock().Monotonic();
    if (left <= absl::ZeroDuration()) return Failed("no answer in time");
    const int ready = poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return Failed(strerror(errno));
  }
}

// A connected socket. Tries the host's addresses in turn.
absl::StatusOr<Bio> OpenSocket(const RedisOptions& options, absl::Duration deadline) {
  const addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* list = nullptr;
  if (const int error = getaddrinfo(options.host.c_str(), absl::StrCat(options.port).c_str(), &hints, &list); error != 0) {
    return Failed(gai_strerror(error));
  }
  const Addresses addresses(list);
  absl::Status status = Failed("it has no address");
  for (const addrinfo* address = list; address != nullptr; address = address->ai_next) {
    const int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return Failed(strerror(errno));
    Bio socket_bio(BIO_new_socket(descriptor, BIO_CLOSE));
    const int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int error = connect(descriptor, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      if (status = Wait(descriptor, POLLOUT, deadline); !status.ok()) continue;
      socklen_t size = sizeof(error);
      getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return socket_bio;
    status = Failed(strerror(error));
  }
  return status;
}

absl::StatusOr<Context> MakeContext(const RedisOptions& options) {
  Context context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  const std::string& ca = options.ca_file;
  if ((ca.empty() ? SSL_CTX_set_default_verify_paths(context.get())
                  : SSL_CTX_load_verify_locations(context.get(), ca.c_str(), nullptr)) != 1) {
    return TlsError(absl::StrCat("CA file ", ca));
  }
  if (options.cert_file.empty()) return context;
  if (SSL_CTX_use_certificate_chain_file(context.get(), options.cert_file.c_str()) != 1) {
    return TlsError(absl::StrCat("certificate file ", options.cert_file));
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return TlsError(absl::StrCat("key file ", options.key_file));
  }
  return context;
}

// TLS over `plain`; the handshake runs with the first bytes. The certificate must name the host.
absl::StatusOr<Bio> AddTls(const RedisOptions& options, Bio plain) {
  BERTH_ASSIGN_OR_RETURN(const Context context, MakeContext(options));
  Bio tls(BIO_new_ssl(context.get(), /*client=*/1));
  SSL* ssl = nullptr;
  BIO_get_ssl(tls.get(), &ssl);
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), options.host.c_str()) != 1) {
    SSL_set1_host(ssl, options.host.c_str());
    SSL_set_tlsext_host_name(ssl, options.host.c_str());
  }
  BIO_push(tls.get(), plain.release());
  return tls;
}

absl::StatusOr<RedisReply> ToReply(const redisReply& from) {
  switch (from.type) {
    case REDIS_REPLY_ERROR:
      return Failed(absl::string_view(from.str, from.len));
    case REDIS_REPLY_NIL:
      return RedisReply{.nil = true};
    case REDIS_REPLY_INTEGER:
      return RedisReply{.text = absl::StrCat(from.integer)};
    case REDIS_REPLY_ARRAY: {
      RedisReply reply;
      for (size_t i = 0; i < from.elements; ++i) {
        BERTH_ASSIGN_OR_RETURN(reply.items.emplace_back(), ToReply(*from.element[i]));
      }
      return reply;
    }
    default:
      return RedisReply{.text = std::string(from.str, from.len)};
  }
}

}  // namespace

// Bytes out, replies in.
class RedisConnection::Transport {
 public:
  explicit Transport(Bio bio) : bio_(std::move(bio)), reader_(redisReaderCreate()) {}

  absl::Status Write(std::string_view bytes, absl::Duration deadline) {
    while (!bytes.empty()) {
      BERTH_ASSIGN_OR_RETURN(
          const int written,
          Finish([&] { return BIO_write(bio_.get(), bytes.data(), static_cast<int>(bytes.size())); }, deadline));
      bytes.remove_prefix(written);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<RedisReply> Read(absl::Duration deadline) {
    while (true) {
      void* found = nullptr;
      if (redisReaderGetReply(reader_.get(), &found) != REDIS_OK) return Failed(reader_->errstr);
      if (found != nullptr) {
        const std::unique_ptr<void, Freer<freeReplyObject>> owned(found);
        return ToReply(*static_cast<const redisReply*>(found));
      }
      char buffer[16384];
      BERTH_ASSIGN_OR_RETURN(const int bytes, Finish([&] { return BIO_read(bio_.get(), buffer, sizeof(buffer)); }, deadline));
      redisReaderFeed(reader_.get(), buffer, bytes);
    }
  }

 private:
  // Repeats `attempt` until it has moved some bytes.
  absl::StatusOr<int> Finish(absl::FunctionRef<int()> attempt, absl::Duration deadline) {
    while (true) {
      errno = 0;
      ERR_clear_error();
      if (const int bytes = attempt(); bytes > 0) return bytes;
      if (!BIO_should_retry(bio_.get())) return Broken();
      int descriptor = -1;
      BIO_get_fd(bio_.get(), &descriptor);
      BERTH_RETURN_IF_ERROR(Wait(descriptor, BIO_should_write(bio_.get()) ? POLLOUT : POLLIN, deadline));
    }
  }

  absl::Status Broken() {
    SSL* ssl = nullptr;
    BIO_get_ssl(bio_.get(), &ssl);
    const long verified = ssl == nullptr ? X509_V_OK : SSL_get_verify_result(ssl);
    if (verified != X509_V_OK) return Failed(absl::StrCat("its certificate: ", X509_verify_cert_error_string(verified)));
    if (ERR_peek_last_error() != 0) return TlsError("TLS");
    return Failed(errno != 0 ? strerror(errno) : "it closed the connection");
  }

  const Bio bio_;
  const Reader reader_;
};

RedisConnection::RedisConnection(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}
RedisConnection::~RedisConnection() = default;

absl::StatusOr<std::unique_ptr<RedisConnection>> RedisConnection::Connect(const RedisOptions& options,
                                                                          absl::Duration deadline) {
  BERTH_ASSIGN_OR_RETURN(Bio bio, OpenSocket(options, deadline));
  if (options.tls) {
    BERTH_ASSIGN_OR_RETURN(bio, AddTls(options, std::move(bio)));
  }
  std::unique_ptr<RedisConnection> connection(new RedisConnection(std::make_unique<Transport>(std::move(bio))));
  BERTH_RETURN_IF_ERROR(connection->Greet(options, deadline));
  return connection;
}

absl::Status RedisConnection::Greet(const RedisOptions& options, absl::Duration deadline) {
  if (!options.password.empty()) {
    std::vector<std::string_view> words = {"AUTH"};
    if (!options.user.empty()) words.push_back(options.user);
    words.push_back(options.password);
    BERTH_RETURN_IF_ERROR(Call(words, deadline).status());
  }
  if (options.database != 0) BERTH_RETURN_IF_ERROR(Call({"SELECT", absl::StrCat(options.database)}, deadline).status());
  BERTH_ASSIGN_OR_RETURN(const RedisReply time, Call({"TIME"}, deadline));
  int64_t seconds = 0, micros = 0;
  if (time.items.size() != 2 || !absl::SimpleAtoi(time.items[0].text, &seconds) ||
      !absl::SimpleAtoi(time.items[1].text, &micros)) {
    return Failed("it does not tell its time");
  }
  server_ahead_ = absl::Seconds(seconds) + absl::Microseconds(micros) - base::SystemClock().Monotonic();
  return absl::OkStatus();
}

absl::StatusOr<RedisReply> RedisConnection::Call(const std::vector<std::string_view>& words, absl::Duration deadline) {
  std::string command = absl::StrCat("*", words.size(), "\r\n");
  for (const std::string_view word : words) {
    absl::StrAppend(&command, "$", word.size(), "\r\n");
    command.append(word).append("\r\n");
  }
  BERTH_RETURN_IF_ERROR(transport_->Write(command, deadline));
  return transport_->Read(deadline);
}

int64_t RedisConnection::ServerMicros() const {
  return absl::ToInt64Microseconds(base::SystemClock().Monotonic() + server_ahead_);
}

}  // namespace berth::session
