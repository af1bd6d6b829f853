#include "worker/session/redis_journal.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "worker/session/holder.h"
#include "worker/session/redis_connection.h"
#include "worker/session/turn_row.h"

namespace berth::session {
namespace {

// Keys, with a session's key bytes as K: a hash `berth1:session:K` (fence, version, holder, request_id, last_used), a list
// `berth1:turns:K` of rows, eight elements each, `berth1:idle`, a sorted set of all K without an open claim by their last use,
// and `berth1:fence`, the last fence. "1" is the layout's version.
constexpr char kSession[] = "berth1:session:", kTurns[] = "berth1:turns:", kIdle[] = "berth1:idle", kFence[] = "berth1:fence";
constexpr size_t kRowElements = 8;
constexpr int kSweepBatch = 1000;

// What changes something begins so. The server may read a command long after its sender has given up on it.
#define BERTH_UNLESS_LATE                    \
  "local time = redis.call('TIME') "         \
  "local now = time[1] * 1000000 + time[2] " \
  "if now > tonumber(ARGV[1]) then return redis.error_reply('LATE the command came too late') end\n"

// Raises the fence if it still is ARGV[2]; else answers nothing. A new fence is higher than any before it, also than those that
// a server which lost its data has forgotten.
constexpr char kClaim[] = BERTH_UNLESS_LATE R"lua(
if (redis.call('HGET', KEYS[1], 'fence') or '') ~= ARGV[2] then return false end
local fence = string.format('%.0f', math.max(now, tonumber(redis.call('GET', KEYS[3]) or 0) + 1))
redis.call('SET', KEYS[3], fence)
redis.call('HSET', KEYS[1], 'fence', fence, 'holder', ARGV[3], 'request_id', ARGV[4])
redis.call('HSETNX', KEYS[1], 'version', '0')
redis.call('HSETNX', KEYS[1], 'last_used', ARGV[5])
redis.call('ZREM', KEYS[2], ARGV[6])
return {fence, redis.call('HGET', KEYS[1], 'version')}
)lua";

// ARGV: fence, version before, version after, K, last use, and the row. Of a commit that was made already it says so again: the
// first answer may have been lost.
constexpr char kCommit[] = BERTH_UNLESS_LATE R"lua(
local session = redis.call('HMGET', KEYS[1], 'fence', 'version')
if session[1] ~= ARGV[2] then return 0 end
if session[2] == ARGV[4] then return 1 end
if session[2] ~= ARGV[3] then return 0 end
redis.call('RPUSH', KEYS[2], unpack(ARGV, 7))
redis.call('HSET', KEYS[1], 'version', ARGV[4], 'holder', '', 'last_used', ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[5])
return 1
)lua";

constexpr char kClose[] = BERTH_UNLESS_LATE R"lua(
local session = redis.call('HMGET', KEYS[1], 'fence', 'version')
if session[1] ~= ARGV[2] or session[2] ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
)lua";

constexpr char kRelease[] = BERTH_UNLESS_LATE R"lua(
local session = redis.call('HMGET', KEYS[1], 'fence', 'version', 'last_used')
if session[1] ~= ARGV[2] then return 0 end
if session[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'holder', '')
redis.call('ZADD', KEYS[2], session[3], ARGV[3])
return 1
)lua";

constexpr char kLoad[] = R"lua(
return {redis.call('HMGET', KEYS[1], 'version', 'last_used'), redis.call('LRANGE', KEYS[2], 0, -1)}
)lua";

// Answers how many it dropped.
constexpr char kSweep[] = BERTH_UNLESS_LATE R"lua(
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[3])
for _, key in ipairs(old) do
  redis.call('DEL', ARGV[4] .. key, ARGV[5] .. key)
  redis.call('ZREM', KEYS[1], key)
end
return #old
)lua";

bool ToNumber(const RedisReply& reply, int64_t* number) { return absl::SimpleAtoi(reply.text, number); }
bool ToNumber(const RedisReply& reply, uint64_t* number) { return absl::SimpleAtoi(reply.text, number); }

absl::Status Damaged() { return absl::DataLossError("the journal holds a session that cannot be read"); }

class RedisJournal : public Journal {
 public:
  RedisJournal(RedisOptions options, std::unique_ptr<RedisConnection> connection, absl::AnyInvocable<void()> in_commit)
      : options_(std::move(options)), in_commit_(std::move(in_commit)), connection_(std::move(connection)) {}

  // Whether a claim may be taken over is decided here; the script makes sure that it was decided about the newest.
  absl::StatusOr<Claim> DoClaim(const ClaimRequest& request) override {
    const std::string key = KeyBytes(request.key);
    const std::string session = kSession + key;
    const absl::Duration deadline = Now() + options_.call_timeout;
    do {
      BERTH_ASSIGN_OR_RETURN(const RedisReply before, Call({"HMGET", session, "fence", "holder", "request_id"}));
      if (before.items.size() != 3) return Damaged();
      const std::string& holder = before.items[1].text;
      if (!MayTakeOver(request, holder, before.items[2].text)) {
        return absl::AbortedError(absl::StrCat("SESSION_BUSY: ", holder, " runs a turn of this session"));
      }
      BERTH_ASSIGN_OR_RETURN(const RedisReply claimed,
                             Run(kClaim, {session, kIdle, kFence},
                                 {before.items[0].text, request.holder, request.request_id, Micros(request.now), key}));
      if (claimed.nil) continue;
      Claim claim;
      if (claimed.items.size() != 2 || !ToNumber(claimed.items[0], &claim.fence) ||
          !ToNumber(claimed.items[1], &claim.version)) {
        return Damaged();
      }
      return claim;
    } while (Now() < deadline);
    return Unavailable("other workers claim the session all the time");
  }

  absl::StatusOr<uint64_t> Commit(const CommitRequest& request) override {
    if (in_commit_) in_commit_();
    const std::string key = KeyBytes(request.key);
    const std::string fence = absl::StrCat(request.fence), before = absl::StrCat(request.from_version);
    absl::StatusOr<RedisReply> done;
    if (request.after == nullptr) {
      done = Run(kClose, {kSession + key, kTurns + key}, {fence, before});
    } else {
      const TurnRow row = MakeTurnRow(request);
      const std::string version = absl::StrCat(row.version), keep_tokens = absl::StrCat(row.keep_tokens),
                        keep_messages = absl::StrCat(row.keep_messages), output_begin = absl::StrCat(row.output_begin),
                        finish_reason = absl::StrCat(row.finish_reason);
      done = Run(kCommit, {kSession + key, kTurns + key, kIdle},
                 {fence, before, version, key, Micros(request.now), version, keep_tokens, keep_messages, row.tokens,
                  row.messages, row.request_id, output_begin, finish_reason});
    }
    if (!done.ok()) return done.status();
    if (done->text != "1") return absl::AbortedError("SESSION_FENCED: another worker has claimed this session since");
    return request.after == nullptr ? 0 : NextVersion(request.fence, request.from_version);
  }

  absl::Status Release(const SessionKey& key, uint64_t fence) override {
    const std::string bytes = KeyBytes(key);
    return Run(kRelease, {kSession + bytes, kIdle}, {absl::StrCat(fence), bytes}).status();
  }

  absl::StatusOr<History> Load(const SessionKey& key) override {
    const std::string bytes = KeyBytes(key);
    BERTH_ASSIGN_OR_RETURN(const RedisReply found, Call({"EVAL", kLoad, "2", kSession + bytes, kTurns + bytes}));
    if (found.items.size() != 2 || found.items[0].items.size() != 2) return Damaged();
    const RedisReply& version = found.items[0].items[0];
    if (version.nil || version.text == "0") {
      return absl::NotFoundError(absl::StrCat("SESSION_NOT_FOUND: no session \"", key.session_id, "\""));
    }
    int64_t last_used = 0;
    if (!ToNumber(found.items[0].items[1], &last_used)) return Damaged();
    History history;
    history.last_used = absl::FromUnixMicros(last_used);
    const std::vector<RedisReply>& elements = found.items[1].items;
    if (elements.size() % kRowElements != 0) return Damaged();
    for (size_t i = 0; i < elements.size(); i += kRowElements) {
      BERTH_RETURN_IF_ERROR(FoldElements(&elements[i], &history));
    }
    return history;
  }

  absl::Status Sweep(absl::Time before) override {
    int64_t dropped = 0;
    do {
      BERTH_ASSIGN_OR_RETURN(const RedisReply count,
                             Run(kSweep, {kIdle}, {Micros(before), absl::StrCat(kSweepBatch), kSession, kTurns}));
      if (!ToNumber(count, &dropped)) return Damaged();
    } while (dropped == kSweepBatch);
    return absl::OkStatus();
  }

  std::string domain() const override { return options_.Name(); }

 private:
  static absl::Duration Now() { return base::SystemClock().Monotonic(); }
  static std::string Micros(absl::Time time) { return absl::StrCat(absl::ToUnixMicros(time)); }

  static absl::Status FoldElements(const RedisReply* row, History* history) {
    TurnRow turn{.tokens = row[3].text, .messages = row[4].text, .request_id = row[5].text};
    if (!ToNumber(row[0], &turn.version) || !ToNumber(row[1], &turn.keep_tokens) || !ToNumber(row[2], &turn.keep_messages) ||
        !ToNumber(row[6], &turn.output_begin) || !ToNumber(row[7], &turn.finish_reason)) {
      return Damaged();
    }
    return Fold(turn, history);
  }

  // One script that changes something; its ARGV begins with the time of the server at which it is given up.
  absl::StatusOr<RedisReply> Run(const char* script, const std::vector<std::string>& keys,
                                 const std::vector<std::string_view>& arguments) {
    BERTH_RETURN_IF_ERROR(Connect());
    const std::string count = absl::StrCat(keys.size());
    const std::string late = absl::StrCat(connection_->ServerMicros() + absl::ToInt64Microseconds(options_.call_timeout));
    std::vector<std::string_view> words = {"EVAL", script, count};
    words.insert(words.end(), keys.begin(), keys.end());
    words.push_back(late);
    words.insert(words.end(), arguments.begin(), arguments.end());
    return Call(words);
  }

  absl::StatusOr<RedisReply> Call(const std::vector<std::string_view>& words) {
    BERTH_RETURN_IF_ERROR(Connect());
    absl::StatusOr<RedisReply> reply = connection_->Call(words, Now() + options_.call_timeout);
    if (!reply.ok()) return Lose(reply.status());
    return reply;
  }

  // While the server is gone only one call per `retry_after` waits for it.
  absl::Status Connect() {
    if (connection_ != nullptr) return absl::OkStatus();
    if (Now() < retry_at_) return Unavailable(why_gone_);
    absl::StatusOr<std::unique_ptr<RedisConnection>> made = RedisConnection::Connect(options_, Now() + options_.call_timeout);
    if (!made.ok()) return Lose(made.status());
    connection_ = *std::move(made);
    return absl::OkStatus();
  }

  absl::Status Lose(const absl::Status& why) {
    connection_.reset();
    retry_at_ = Now() + options_.retry_after;
    why_gone_ = std::string(why.message());
    return Unavailable(why_gone_);
  }

  absl::Status Unavailable(absl::string_view why) const {
    return absl::UnavailableError(absl::StrCat("JOURNAL_UNAVAILABLE: ", options_.Name(), ": ", why));
  }

  const RedisOptions options_;
  absl::AnyInvocable<void()> in_commit_;
  std::unique_ptr<RedisConnection> connection_;  // null: gone
  absl::Duration retry_at_;
  std::string why_gone_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenRedisJournal(RedisOptions options, absl::AnyInvocable<void()> in_commit) {
  auto connection = RedisConnection::Connect(options, base::SystemClock().Monotonic() + options.connect_timeout);
  if (!connection.ok()) {
    return absl::UnavailableError(absl::StrCat("journal ", options.Name(), ": ", connection.status().message()));
  }
  return std::make_unique<RedisJournal>(std::move(options), *std::move(connection), std::move(in_commit));
}

}  // namespace berth::session
