"""The same request gives the same tokens whichever way it comes."""

import json
import os
import random
import subprocess

import berth
import pytest
from berth.v1 import generation_pb2 as v1
from conftest import TINY_MODEL, address_of
from google.protobuf import json_format
from processes import Cluster

SEED = 20240117
COMBINATIONS = 100


@pytest.fixture(scope="module")
def cluster(bin_dir, tmp_path_factory):
    arguments = (
        "--model",
        TINY_MODEL,
        "--device",
        "cpu",
        "--load-format",
        "random",
        "--seed",
        "1",
        "--cpu-threads",
        "1",
    )
    started = Cluster(bin_dir, str(tmp_path_factory.mktemp("tiny")), workers=1, worker_arguments=arguments)
    yield started
    started.stop()


def draw(random):
    """Fields of a request under their HTTP names: those that the combination has."""
    choices = {
        "temperature": lambda: round(random.uniform(0, 2), 3),
        "top_p": lambda: round(random.uniform(0.05, 1), 3),
        "top_k": lambda: random.choice([0, 1, 5, 50]),
        "min_p": lambda: round(random.uniform(0, 0.9), 3),
        "repetition_penalty": lambda: round(random.uniform(0.5, 2), 3),
        "presence_penalty": lambda: round(random.uniform(-2, 2), 3),
        "frequency_penalty": lambda: round(random.uniform(-2, 2), 3),
        "logit_bias": lambda: {str(random.randrange(3, 256)): random.choice([-100, -5, 5, 20]) for _ in range(3)},
        "min_tokens": lambda: random.randint(0, 3),
        "stop": lambda: random.sample(["e", "t ", "qu", "%", "O"], 2),
        "stop_token_ids": lambda: random.sample(range(3, 256), 4),
        "bad_words": lambda: random.sample(["a", "b", "x", "%"], 2),
        "ignore_eos": lambda: random.random() < 0.5,
        "include_stop_str_in_output": lambda: random.random() < 0.5,
        "skip_special_tokens": lambda: random.random() < 0.5,
    }
    names = random.sample(sorted(choices), random.randint(1, len(choices)))
    return {
        "seed": random.getrandbits(63),
        "max_tokens": random.randint(3, 12),
        **{name: choices[name]() for name in names},
    }


def spec_of(fields):
    """The same as a GenerationSpec without a prompt."""
    spec = v1.GenerationSpec()
    for name in (
        "seed",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    ):
        if name in fields:
            setattr(spec.sampling, name, fields[name])
    for token, bias in fields.get("logit_bias", {}).items():
        spec.sampling.logit_bias[int(token)] = bias
    for name, ours in {"max_tokens": "max_tokens", "min_tokens": "min_tokens", "ignore_eos": "ignore_eos",
                       "include_stop_str_in_output": "include_stop_string"}.items():  # fmt: skip
        if name in fields:
            setattr(spec.stop, ours, fields[name])
    spec.stop.stop_strings.extend(fields.get("stop", []))
    spec.stop.stop_token_ids.extend(fields.get("stop_token_ids", []))
    spec.stop.bad_words.extend(fields.get("bad_words", []))
    if "skip_special_tokens" in fields:
        spec.output.skip_special_tokens = fields["skip_special_tokens"]
    return spec


def over_grpc(pipe, messages, fields):
    spec = spec_of(fields)
    spec.request_id = f"grpc-{fields['seed']}"
    spec.prompt.chat.messages.add(role="user", content=messages)
    spec.output.token_ids = True
    choice = pipe.run(pipe.client.generate(spec)).choices[0]
    return list(choice.token_ids), choice.text


def config_of(fields):
    names = {
        "seed": "random_seed",
        "max_tokens": "max_new_tokens",
        "min_tokens": "min_new_tokens",
        "stop": "stop_words",
    }
    options = {names.get(name, name): value for name, value in fields.items()}
    if "logit_bias" in options:
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    return berth.GenerationConfig(do_sample=True, **options)


def over_http(cluster, messages, fields):
    body = {"model": "llama", "messages": [{"role": "user", "content": messages}], **fields}
    status, _, answer = cluster.post("/v1/chat/completions", body)
    assert status == 200, answer
    return answer["usage"]["completion_tokens"], answer["choices"][0]["message"]["content"]


def ids_over_http(cluster, prompt, fields):
    """The answer to a prompt of ids, which alone has them."""
    status, _, answer = cluster.post("/generate", {"model": "llama", "input_ids": prompt, **fields})
    assert status == 200, answer
    return answer["output_ids"], answer["text"]


def over_cli(bin_dir, cluster, messages, fields):
    """Of the fields that have flags, half go by them. The answer as text is the one as JSON."""
    command = [os.path.join(bin_dir, "berth"), "chat", "--server", address_of(cluster), "--prompt", messages]
    left = dict(fields)
    if fields["seed"] % 2:
        for name in ("seed", "max_tokens", "temperature", "top_p", "top_k"):
            if name in fields:
                command += ["--" + name.replace("_", "-"), str(left.pop(name))]
    command += ["--generation", json_format.MessageToJson(spec_of(left), indent=None)]
    shown, told = (subprocess.run([*command, *more], check=True, capture_output=True).stdout for more in ([], ["--json"]))
    choice = json.loads(told)["choices"][0]
    assert shown.decode() == choice["text"] + "\n"
    return choice["token_ids"], choice["text"]


def test_the_same_seed_gives_the_same_tokens_whichever_way_they_come(cluster, bin_dir):
    random_source = random.Random(SEED)
    outputs = set()
    with berth.pipeline(address_of(cluster)) as pipe:
        for number in range(COMBINATIONS):
            fields = draw(random_source)
            messages = f"Combination {number}?"
            ids, text = over_grpc(pipe, messages, fields)
            answer = pipe(messages, config_of(fields))
            assert (answer.token_ids, answer.text) == (ids, text), json.dumps(fields)
            assert over_http(cluster, messages, fields) == (len(ids), text), json.dumps(fields)
            chat = v1.Prompt(chat=v1.ChatPrompt(messages=[v1.ChatMessage(role="user", content=messages)]))
            prompt = pipe.run(pipe.client.tokenize(chat))
            assert ids_over_http(cluster, prompt, fields) == (ids, text), json.dumps(fields)
            assert over_cli(bin_dir, cluster, messages, fields) == (ids, text), json.dumps(fields)
            outputs.add(tuple(ids))
    assert len(outputs) > COMBINATIONS / 2


def test_what_is_no_generation_is_named(bin_dir):
    for generation, error in (('{"sampling": {"heat": 1}}', "heat"), ('{"session": {}}', "session"), ("{", "--generation")):
        done = subprocess.run(
            [os.path.join(bin_dir, "berth"), "chat", "--prompt", "x", "--generation", generation],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and error in done.stderr
