#include "clients/cli/old_spellings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace berth::cli {
namespace {

using ::testing::HasSubstr;

std::string Modern(const std::string& line) {
  const auto words = Modernise(absl::StrSplit(line, ' '));
  return words.ok() ? absl::StrJoin(*words, " ") : std::string(words.status().message());
}

TEST(OldSpellingsTest, OwnSpellingsStayAsTheyAre) {
  for (const char* line : {"serve m --workers 2 --api-keys a b", "chat --server h:1 --prompt a_b", "admin workers --json",
                           "bench serve --loads B:3x8/6", "serve m --worker-flag=--sim-step-ms=1"}) {
    EXPECT_EQ(Modern(line), line);
  }
}

TEST(OldSpellingsTest, CommandsAndFlagsOfLmdeployBecomeOurs) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"serve api_server m --server-name 0.0.0.0 --server-port 23333 --tp 1", "serve m --host 0.0.0.0 --port 23333"},
      {"serve api_server m --server_name 0.0.0.0 --instance_num 64", "serve m --host 0.0.0.0 --max-batch-size 64"},
      {"serve gradio m", "serve --port 6006 m"},
      {"serve gradio m --server_port=7860", "serve m --port=7860"},
      {"serve api_client http://h:1 --session_id 2", "api_client http://h:1 --session-id 2"},
      {"api_client http://h:1 --request_output_len 4", "api_client http://h:1 --max-tokens 4"},
      {"chat turbomind m --model-name llama2 --cap chat", "chat m --model-name llama2"},
      {"chat m --backend turbomind --trust-remote-code --session_len=4096", "chat m --session-len=4096"},
      {"serve m --cache-max-entry-count 0.5 --dtype bfloat16 --model-format hf --quant-policy 0",
       "serve m --cache-max-entry-count 0.5 --dtype=bf16"},
      {"serve m --dtype auto --log_level WARNING --tool-call-parser=qwen3",
       "serve m --dtype=auto --log-level=warn --tool-call-parser=hermes"},
      {"serve m --max-concurrent-requests 8", "serve m --max-streams 8"},
      {"serve m --eager-mode --max_log_len 9 --role Hybrid --log-level CRITICAL", "serve m --log-level=error"},
      {"convert m --tp 2 --group-size 0 --dtype float16", "convert m --tp 2 --dtype=f16"},
      {"chat m --dtype f16 --log-level", "chat m --dtype=f16 --log-level"},
      {"chat m --meta_instruction=short", "chat m --system=short"},
      {"check_env --dump_file f", "check-env --dump-file f"},
      {"convert llama2 m --dst_path=out_dir", "convert m --dst-path=out_dir"},
      {"convert m --dst-path out_dir", "convert m --dst-path out_dir"},
  };
  for (const auto& [old_line, line] : cases) EXPECT_EQ(Modern(old_line), line) << old_line;
}

TEST(OldSpellingsTest, FlagsOfVllmAndSglangBecomeOurs) {
  EXPECT_EQ(Modern("serve m --max-model-len 4096 --max_num_seqs=64 --served-model-name x --tensor-parallel-size 1"),
            "serve m --session-len 4096 --max-batch-size=64 --model-name x");
  EXPECT_EQ(Modern("serve m --context-length 4096 --max-running-requests 64 --dp-size 2 --disable-radix-cache --tp-size 1"),
            "serve m --session-len 4096 --max-batch-size 64 --workers 2 --no-prefix-cache");
  EXPECT_EQ(Modern("serve m --enforce-eager --kv-cache-dtype auto --tool-call-parser llama3_json --api-key k"),
            "serve m --tool-call-parser=llama3 --api-keys k");
  EXPECT_EQ(Modern("serve m --tensor-parallel-size 4"),
            "--tensor-parallel-size 4: Berth has no tensor parallelism; --workers N serves a copy on each GPU");
  EXPECT_THAT(Modern("serve m --kv-cache-dtype fp8"), HasSubstr("--kv-cache-dtype fp8: Berth has no quantised KV cache"));
  EXPECT_THAT(Modern("serve m --gpu-memory-utilization 0.9"), HasSubstr("--cache-max-entry-count R"));
}

TEST(OldSpellingsTest, WhatBerthLacksIsNamed) {
  for (const char* line :
       {"serve m --tp 2", "serve m --tp=2", "chat m --quant-policy 8", "serve m --quant_policy 4", "lite calibrate m",
        "lite auto_awq m", "serve triton_client h:33337", "serve proxy", "chat torch m", "serve m --backend pytorch",
        "serve m --model-format awq", "serve m --meta-instruction short", "chat internlm/internlm-chat-20b-4bit",
        "serve m --cap completion", "serve m --ssl", "serve m --num_tokens_per_iter 4", "serve m --max-prefill-token-num=9",
        "convert m --chat-template t", "list --engine pytorch"}) {
    const auto words = Modernise(absl::StrSplit(line, ' '));
    EXPECT_EQ(words.status().code(), absl::StatusCode::kUnimplemented) << line;
    EXPECT_THAT(std::string(words.status().message()), HasSubstr(": Berth has no ")) << line;
  }
  EXPECT_THAT(Modern("serve m --tp=2"), HasSubstr("--tp 2: Berth has no tensor parallelism"));
  EXPECT_THAT(Modern("serve m --model-format awq"), HasSubstr("--model-format awq: Berth has no reader of this format"));
}

TEST(OldSpellingsTest, AServerIsAnAddressOrAUrl) {
  EXPECT_EQ(*ServerAddress("h:23334"), "h:23334");
  EXPECT_EQ(*ServerAddress("http://h:23333"), "h:23334");
  EXPECT_EQ(*ServerAddress("https://h.example:80/"), "h.example:81");
  for (const char* bad : {"", "h", ":1", "h:0", "h:99999", "http://h", "h:x"}) {
    EXPECT_THAT(std::string(ServerAddress(bad).status().message()), HasSubstr("is neither host:port")) << bad;
  }
}

}  // namespace
}  // namespace berth::cli
