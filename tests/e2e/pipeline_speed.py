"""Characters per second of berth.pipeline against Hugging Face transformers, as LMDeploy's tutorial measures them: a
warm-up, then every prompt in turn. usage: pipeline_speed.py MODEL_DIRECTORY [--device cuda|cpu] [--rounds N] [--batch
N] [--tokens N]

Needs berth, torch and transformers. Prints a line of JSON for each side; a median over the rounds."""

import argparse
import json
import statistics
import time

PROMPTS = [
    "Please introduce yourself.",
    "What is the capital of China?",
    "Tell me a story about a harbour.",
    "Why is the sky blue?",
]


def measure(name, answer, options):
    """`answer` gives the texts of a batch of prompts."""
    batches = [PROMPTS[i % len(PROMPTS) :] + PROMPTS[: i % len(PROMPTS)] for i in range(len(PROMPTS))]
    batches = [(batch * options.batch)[: options.batch] for batch in batches]
    answer(batches[0])
    rates = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        characters = sum(len(text) for batch in batches for text in answer(batch))
        rates.append(characters / (time.perf_counter() - start))
    print(
        json.dumps(
            {
                "engine": name,
                "characters_per_second": statistics.median(rates),
                "lowest": min(rates),
                "highest": max(rates),
            }
        )
    )
    return statistics.median(rates)


def berth_side(options):
    import berth

    config = berth.GenerationConfig(max_new_tokens=options.tokens, do_sample=False)
    with berth.pipeline(options.model, berth.EngineConfig(device=options.device)) as pipe:
        return measure("berth", lambda batch: [response.text for response in pipe(batch, config)], options)


def transformers_side(options):
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).to(options.device).eval()

    def answer(batch):
        chats = [[{"role": "user", "content": prompt}] for prompt in batch]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        inputs = inputs.to(options.device)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=options.tokens, do_sample=False)
        return tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    return measure("transformers", answer, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    ours, theirs = berth_side(options), transformers_side(options)
    print(f"berth is {ours / theirs:.2f} times as fast")


if __name__ == "__main__":
    main()
