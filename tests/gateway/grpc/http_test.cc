#include <thread>

#include "nlohmann/json.hpp"
#include "tests/gateway/grpc/gateway_fixture.h"
#include "tests/gateway/grpc/http_client.h"

namespace berth::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kChat[] = "/v1/chat/completions";
constexpr char kText[] = "/v1/completions";
constexpr char kEmbeddings[] = "/v1/embeddings";

class HttpTest : public GatewayTest {
 protected:
  HttpClient Connect() { return HttpClient(gateway_->ports().http); }
  static std::string TextBody(const std::string& prompt, const json& more = json::object()) {
    json body = {{"model", "m"}, {"prompt", prompt}, {"max_tokens", 3}};
    body.update(more);
    return body.dump();
  }
  static std::string ChatBody(const json& more = json::object()) {
    json body = {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"max_tokens", 3}};
    body.update(more);
    return body.dump();
  }
  // Asserts OpenAI's error shape.
  static json ErrorOf(const HttpClient::Response& response, int status) {
    EXPECT_EQ(response.status, status) << response.body;
    const json body = json::parse(response.body, nullptr, false);
    if (!body.is_object() || !body.contains("error")) {
      ADD_FAILURE() << response.body;
      return json::object();
    }
    for (const char* key : {"message", "type", "param", "code"}) EXPECT_TRUE(body["error"].contains(key)) << key;
    return body["error"];
  }
};

TEST_F(HttpTest, AnswersAChatAsAWhole) {
  const auto response = Connect().PostAndReceive(kChat, ChatBody());
  ASSERT_EQ(response.status, 200) << response.body;
  const json body = json::parse(response.body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "t0 t1 t2 ");
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
}

TEST_F(HttpTest, StreamsAChatAsEvents) {
  const auto response =
      Connect().PostAndReceive(kChat, ChatBody({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.head, HasSubstr("text/event-stream"));
  EXPECT_THAT(response.head, HasSubstr("X-Request-Id"));
  std::string text;
  bool usage = false;
  std::string rest = response.body;
  ASSERT_TRUE(rest.ends_with("data: [DONE]\n\n"));
  rest.resize(rest.size() - sizeof("data: [DONE]\n\n") + 1);
  for (bool first = true; !rest.empty(); first = false) {
    const size_t end = rest.find("\n\n");
    const json event = json::parse(rest.substr(6, end - 6));
    rest.erase(0, end + 2);
    if (first) {
      EXPECT_EQ(event["choices"][0]["delta"]["role"], "assistant");
    }
    if (!event["choices"].empty()) text += event["choices"][0]["delta"].value("content", "");
    usage = event["usage"].is_object();
  }
  EXPECT_EQ(text, "t0 t1 t2 ");
  EXPECT_TRUE(usage) << "the last chunk carries it";
}

TEST_F(HttpTest, SeveralPromptsAreOneAnswer) {
  const json prompts = {{"prompt", {"a", "b", "c"}}};
  const auto whole = Connect().PostAndReceive(kText, TextBody("", prompts));
  ASSERT_EQ(whole.status, 200) << whole.body;
  const json body = json::parse(whole.body);
  ASSERT_EQ(body["choices"].size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], "t0 t1 t2 ");
  }
  const json alone = json::parse(Connect().PostAndReceive(kText, TextBody("a")).body);
  EXPECT_EQ(body["usage"]["completion_tokens"].get<int>(), 3 * alone["usage"]["completion_tokens"].get<int>());
  EXPECT_EQ(body["usage"]["prompt_tokens"].get<int>(), 3 * alone["usage"]["prompt_tokens"].get<int>());

  json streaming = prompts;
  streaming.update({{"stream", true}, {"stream_options", {{"include_usage", true}}}});
  std::string rest = Connect().PostAndReceive(kText, TextBody("", streaming)).body;
  std::vector<std::string> texts(3), reasons(3), ids;
  int usages = 0;
  while (!rest.starts_with("data: [DONE]")) {
    const size_t end = rest.find("\n\n");
    ASSERT_NE(end, std::string::npos) << rest;
    const json event = json::parse(rest.substr(6, end - 6));
    rest.erase(0, end + 2);
    ids.push_back(event["id"]);
    EXPECT_EQ(ids.back(), ids.front());
    usages += event["usage"].is_object();
    if (event["choices"].empty()) {
      EXPECT_EQ(event["usage"], body["usage"]);
      continue;
    }
    const json& choice = event["choices"][0];
    texts.at(choice["index"].get<size_t>()) += choice["text"];
    if (choice["finish_reason"].is_string()) reasons.at(choice["index"].get<size_t>()) = choice["finish_reason"];
  }
  EXPECT_THAT(texts, ::testing::Each("t0 t1 t2 "));
  EXPECT_THAT(reasons, ::testing::Each("length"));
  EXPECT_EQ(usages, 1);
  EXPECT_EQ(rest, "data: [DONE]\n\n");
}

TEST_F(HttpTest, OneConnectionServesManyRequests) {
  HttpClient client = Connect();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client.PostAndReceive(kText, TextBody("hi")).status, 200);
    EXPECT_EQ(client.PostAndReceive(kText, TextBody("hi", {{"stream", true}})).status, 200);
    EXPECT_EQ(client.PostAndReceive(kText, "{").status, 400);
  }
  // Two requests at once are answered in order.
  client.Post(kText, TextBody("hi"));
  client.Post(kText, TextBody("hi", {{"max_tokens", 1}}));
  EXPECT_TRUE(client.Receive().Has("t0 t1 t2 "));
  EXPECT_FALSE(client.Receive().Has("t1"));
}

TEST_F(HttpTest, AnOldClientGetsItsStreamUntilTheConnectionCloses) {
  HttpClient client = Connect();
  const std::string body = TextBody("hi", {{"stream", true}});
  client.Send(absl::StrCat("POST ", kText, " HTTP/1.0\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  const auto head = client.ReceiveHead();
  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.head, Not(HasSubstr("chunked")));
}

TEST_F(HttpTest, HonoursExpectContinue) {
  HttpClient client = Connect();
  const std::string body = TextBody("hi");
  client.Send(absl::StrCat("POST ", kText, " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ", body.size(),
                           "\r\n\r\n"));
  EXPECT_EQ(client.ReceiveHead().status, 100);
  client.Send(body);
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpTest, ACallerWhoClosesCancelsUpstream) {
  for (const bool stream : {true, false}) {
    {
      HttpClient client = Connect();
      client.Post(kText, TextBody("hold", {{"stream", stream}, {"session_id", "same"}}));
      if (stream) {
        EXPECT_EQ(client.ReceiveHead().status, 200);
      } else {
        FakeAttachWorker& worker = workers_[0]->submits().empty() ? *workers_[1] : *workers_[0];
        ASSERT_TRUE(worker.WaitForSubmits(2));
      }
    }
    EXPECT_TRUE(WaitForCancels(stream ? 1 : 2)) << stream;
  }
}

TEST_F(HttpTest, ACallerWhoClosesCancelsItsEmbeddings) {
  const std::vector<std::string> inputs(40, "hold");  // two rpcs
  HttpClient client = Connect();
  client.Post(kEmbeddings, json{{"model", "m"}, {"input", inputs}}.dump());
  HttpClient other = Connect();  // whose answers pace the loop
  while (workers_[0]->embeds().first + workers_[1]->embeds().first < 2) ASSERT_EQ(other.Get("/health").status, 200);
  client.Close();
  for (const auto& worker : workers_) EXPECT_TRUE(worker->WaitForCancels(worker->embeds().first));
}

TEST_F(HttpTest, EmbeddingsGoToAnotherWorkerWhenTheirsDrains) {
  const std::string body = json{{"model", "m"}, {"input", "x"}}.dump();
  int refused = 0;
  for (const auto& draining : workers_) {
    draining->Drain(true);
    for (int i = 0; i < 4; ++i) {
      const auto response = Connect().PostAndReceive(kEmbeddings, body);
      EXPECT_EQ(response.status, 200) << response.body;
      EXPECT_THAT(response.body, HasSubstr("\"embedding\":[1,0]"));
    }
    draining->Drain(false);
    refused += draining->embeds().second;
  }
  EXPECT_GT(refused, 0) << "nobody was sent on";
  const int before = workers_[0]->embeds().first + workers_[1]->embeds().first;
  for (const auto& worker : workers_) worker->Drain(true);
  EXPECT_EQ(ErrorOf(Connect().PostAndReceive(kEmbeddings, body), 503)["code"], "draining");
  EXPECT_EQ(workers_[0]->embeds().first + workers_[1]->embeds().first, before + 2) << "tried twice, no more";
}

TEST_F(HttpTest, ASlowReaderLosesItsConnectionAndTheWorkerIsTold) {
  HttpClient client = Connect();
  client.Post(kText, TextBody("flood", {{"stream", true}}));
  EXPECT_EQ(client.ReceiveHead().status, 200);
  EXPECT_TRUE(WaitForCancels(1));
}

TEST_F(HttpTest, SessionsComeInTheBodyOrTheHeader) {
  ASSERT_EQ(Connect().PostAndReceive(kText, TextBody("hi", {{"session_id", "body"}}), "X-Session-Id: header\r\n").status, 200);
  ASSERT_EQ(Connect().PostAndReceive(kText, TextBody("hi"), "X-Session-Id: header\r\ntraceparent: 00-a-b-01\r\n").status, 200);
  std::vector<std::string> sessions;
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) sessions.push_back(submit.generation().session_id());
  }
  EXPECT_THAT(sessions, ::testing::UnorderedElementsAre("body", "header"));
}

TEST_F(HttpTest, HeadersThatWorkersCannotReadStayHere) {
  constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  HttpClient client = Connect();
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kText, TextBody("hi"), "X-Session-Id: \xff\r\n"), 400)["param"], "X-Session-Id");
  for (const std::string trace : {kTrace, "\xff", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\xff-01"}) {
    EXPECT_EQ(client.PostAndReceive(kText, TextBody("hi"), absl::StrCat("traceparent: ", trace, "\r\n")).status, 200) << trace;
  }
  std::vector<std::string> traces;
  for (const auto& worker : workers_) {
    for (const v1::Submit& submit : worker->submits()) traces.push_back(submit.traceparent());
  }
  EXPECT_THAT(traces, ::testing::UnorderedElementsAre(kTrace, "", ""));
}

TEST_F(HttpTest, ListsModels) {
  HttpClient client = Connect();
  EXPECT_EQ(json::parse(client.Get("/v1/models").body)["data"][0]["id"], "m");
  EXPECT_EQ(json::parse(client.Get("/v1/models/m?x=1").body)["max_model_len"], 4096);
  EXPECT_EQ(ErrorOf(client.Get("/v1/models/gpt-9"), 404)["code"], "model_not_found");
}

TEST_F(HttpTest, TellsItsHealth) {
  EXPECT_EQ(Connect().Get("/health").status, 200);
  HttpClient probes(gateway_->ports().metrics);
  EXPECT_EQ(probes.Get("/ready").status, 200);
  EXPECT_THAT(HttpClient(gateway_->ports().metrics).Get("/metrics").body,
              HasSubstr("berth_gateway_worker_up{worker=\"w1\"} 1"));
}

TEST_F(HttpTest, BadRequestsAreOneClearErrorEach) {
  HttpClient client = Connect();
  EXPECT_THAT(std::string(ErrorOf(client.PostAndReceive(kChat, "{\"model\": nope}"), 400)["message"]), HasSubstr("byte"));
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kChat, ChatBody({{"temperature", "hot"}})), 400)["param"], "temperature");
  EXPECT_EQ(
      ErrorOf(client.PostAndReceive(kChat, R"({"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN})"),
              400)["type"],
      "invalid_request_error");
  ErrorOf(client.PostAndReceive(kChat, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}"), 400);
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kChat, ChatBody({{"model", "gpt-9"}})), 404)["code"], "model_not_found");
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kText, TextBody("refuse")), 400)["param"], "temperature") << "the worker's own check";
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kText, TextBody("refuse", {{"stream", true}})), 400)["param"], "temperature");
  EXPECT_EQ(ErrorOf(client.PostAndReceive(kChat, ChatBody({{"n", 0}})), 400)["param"], "n");
  ErrorOf(client.Get("/nothing"), 404);
  ErrorOf(client.Get(kChat), 405);
  EXPECT_EQ(client.PostAndReceive(kText, TextBody("hi")).status, 200) << "the connection lives on";
}

TEST_F(HttpTest, AnUnreadableRequestIsRefused) {
  HttpClient client = Connect();
  client.Send("NONSENSE\r\n\r\n");
  ErrorOf(client.Receive(), 400);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(HttpTest, AHugeBodyIsRefusedAndItsSenderCanReadWhy) {
  HttpClient client = Connect();
  client.Send(absl::StrCat("POST ", kChat, " HTTP/1.1\r\nHost: x\r\nContent-Length: ", 100 << 20, "\r\n\r\n"));
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 100; ++i) client.Send(block);
  EXPECT_EQ(ErrorOf(client.Receive(), 413)["code"], "request_too_large");
  EXPECT_EQ(Connect().PostAndReceive(kText, TextBody("hi")).status, 200);
}

TEST_F(HttpTest, WhatSurroundsChunksEndsToo) {
  for (const char* beginning : {"5;x=", "0\r\nX: "}) {
    HttpClient client = Connect();
    client.Send(absl::StrCat("POST ", kText, " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", beginning));
    client.Send(std::string(1 << 20, 'x'));
    EXPECT_EQ(ErrorOf(client.Receive(), 413)["code"], "request_too_large") << beginning;
    EXPECT_TRUE(client.AtEnd());
  }
}

TEST_F(HttpTest, RequestsMayWaitInARow) {
  HttpClient client = Connect();
  std::string row;
  for (int i = 0; i < 20000; ++i) row += "GET /nothing HTTP/1.1\r\n\r\n";
  std::thread sender([&] { client.Send(row); });
  for (int i = 0; i < 20000; ++i) ASSERT_EQ(client.Receive().status, 404) << i;
  sender.join();
}

TEST_F(HttpTest, HeadIsGetWithoutTheBody) {
  HttpClient client = Connect();
  const auto head = [&](const char* path) {
    client.Send(absl::StrCat("HEAD ", path, " HTTP/1.1\r\nHost: x\r\n\r\n"));
    return client.ReceiveHead();
  };
  for (const char* path : {"/", "/health", "/v1/models", "/nothing"}) {
    const auto answer = head(path);
    EXPECT_EQ(answer.head, client.Get(path).head) << path;
    EXPECT_EQ(answer.status, path == std::string("/nothing") ? 404 : 200);
  }
  const auto refused = head(kChat);
  EXPECT_EQ(refused.status, 405);
  EXPECT_THAT(refused.head, HasSubstr("Allow: POST, OPTIONS"));
  EXPECT_EQ(client.Get("/health").status, 200) << "no body was left";
}

TEST_F(HttpTest, StoppingEndsAStreamWithAnErrorEvent) {
  HttpClient client = Connect();
  client.Post(kText, TextBody("hold", {{"stream", true}}));
  EXPECT_EQ(client.ReceiveHead().status, 200);
  gateway_->Stop(absl::Milliseconds(50));
  std::string body;
  while (true) {
    const std::string chunk = client.ReceiveChunk();
    if (chunk.empty()) break;
    body += chunk;
  }
  EXPECT_THAT(body, HasSubstr("\"code\":\"draining\""));
  EXPECT_THAT(body, HasSubstr("data: [DONE]"));
}

}  // namespace
}  // namespace berth::gateway
