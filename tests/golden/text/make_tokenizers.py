"""Trains a small tokenizer for every pipeline and writes what PyPI tokenizers and sentencepiece make of corpus.txt.

Per pipeline: the tokenizer file, NAME.ids (a hash of the ids of each line of the corpus) and NAME.texts (a hash of the decoded
text of each of a series of pseudo-random id lists, with and without special tokens).
Needs tokenizers 0.23.3, sentencepiece 0.2.3 and tiktoken 0.14.0. Usage: make_tokenizers.py [GGUF file of SmolLM2, for demo.ids and demo.texts]
"""

import base64
import collections
import io
import json
import pathlib
import sys
import unicodedata

import sentencepiece
import tiktoken
import tiktoken._educational
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
DECODE_CASES = 400


def read_corpus():
    lines = (HERE / "corpus.txt").read_bytes().decode("utf-8").split("\n")[:-1]
    unescape = {"\\": "\\", "n": "\n", "r": "\r", "0": "\0"}
    texts = []
    for line in lines:
        parts, i = [], 0
        while i < len(line):
            if line[i] == "\\":
                parts.append(unescape[line[i + 1]])
                i += 2
            else:
                parts.append(line[i])
                i += 1
        texts.append("".join(parts))
    return texts


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"[:8]


def random_ids(size):
    """The lists of ids that are decoded: a linear congruential generator, as in the test."""
    state = 1
    def draw(n):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (state >> 33) % n
    for case in range(DECODE_CASES):
        span = size if case % 2 == 0 else min(size, 300)  # low ids are single bytes
        yield [draw(span) for _ in range(1 + draw(24))]


def write_golden(name, encode, decode, size, texts):
    ids = [fnv1a(b"".join(i.to_bytes(4, "little") for i in encode(text))) for text in texts]
    (HERE / f"{name}.ids").write_text("\n".join(ids) + "\n")
    decoded = [fnv1a(decode(ids).encode("utf-8")) for ids in random_ids(size)]
    (HERE / f"{name}.texts").write_text("\n".join(decoded) + "\n")


def write_hf_golden(name, tokenizer, texts):
    write_golden(name, lambda text: tokenizer.encode(text).ids,
                 lambda ids: tokenizer.decode(ids, skip_special_tokens=len(ids) % 2 == 0), tokenizer.get_vocab_size(), texts)


ODD_TOKENS = [
    AddedToken("<left>", lstrip=True, normalized=False),
    AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, special=True),
    AddedToken("<word>", single_word=True, normalized=False),
    AddedToken("<NORM>", normalized=True),
    AddedToken("word", single_word=True, normalized=True),
]


def train(name, texts, *, normalizer=None, pre_tokenizer, decoder, post_processor=None, alphabet=True, special=(), vocabulary=1500,
          odd_tokens=False, after=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else []))
    if odd_tokens:
        for token in ODD_TOKENS:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    if post_processor is not None:
        tokenizer.post_processor = post_processor(tokenizer)
    if after is not None:
        tokenizer = after(tokenizer)
    save(name, tokenizer)
    write_hf_golden(name, tokenizer, texts)


def save(name, tokenizer):
    (HERE / f"{name}.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))


def with_ignore_merges(tokenizer):
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = True
    # A token that no merge leads to, so that the flag shows.
    word = "Ġzéphyr".replace("é", "Ã©")
    data["model"]["vocab"][word] = len(data["model"]["vocab"]) + len(
        [t for t in data["added_tokens"] if t["content"] not in data["model"]["vocab"]])
    return Tokenizer.from_str(json.dumps(data))


def byte_level(**options):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def make_byte_level(texts):
    chat = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    train("gpt2", texts, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel(), special=chat,
          odd_tokens=True)
    train("llama3", texts, pre_tokenizer=pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"), byte_level(use_regex=False)]), decoder=decoders.ByteLevel(),
          special=["<s>"] + chat, after=with_ignore_merges,
          post_processor=lambda t: processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
              single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", t.token_to_id("<s>"))])]))
    train("qwen2", texts, normalizer=normalizers.NFC(), pre_tokenizer=pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"), byte_level(use_regex=False)]), decoder=decoders.ByteLevel(),
          special=chat)
    train("smollm", texts, pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()]),
          decoder=decoders.ByteLevel(), special=chat, alphabet=False)


def make_other_steps(texts):
    train("metaspace", texts, pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"), decoder=decoders.Metaspace(
        prepend_scheme="first"), special=["<unk>"], alphabet=False, vocabulary=2000, unk_token="<unk>", fuse_unk=True)
    train("steps", texts, alphabet=False, vocabulary=1500, special=["<unk>", "</s>"], unk_token="<unk>", odd_tokens=True,
          normalizer=normalizers.Sequence([
              normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip(),
              normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("``", '"')]),
          pre_tokenizer=pre_tokenizers.Sequence([
              pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="contiguous"),
              pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split("o", behavior="merged_with_previous"),
              pre_tokenizers.Split(Regex(r"[aeiu]"), behavior="merged_with_next"),
              pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), behavior="removed", invert=True), pre_tokenizers.Metaspace(
                  prepend_scheme="always")]),
          decoder=decoders.Metaspace(),
          post_processor=lambda t: processors.TemplateProcessing(
              single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", t.token_to_id("</s>"))]))


def has_one_best_cut(processor, text):
    """Releases of the library choose differently among cuts of equal score."""
    scores = [sum(map(processor.get_score, ids)) for ids in processor.nbest_encode(text, nbest_size=2)]
    return len(scores) < 2 or abs(scores[0] - scores[1]) > 1e-3


def train_sentencepiece(name, texts, **options):
    """As the others, but a line that may be cut in several ways is "-"."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in texts if t.strip()]), model_writer=model, minloglevel=2, num_threads=1,
        hard_vocab_limit=False, **options)
    (HERE / f"{name}.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    write_golden(name, processor.encode, processor.decode, processor.get_piece_size(), texts)
    if options["model_type"] == "unigram":
        path = HERE / f"{name}.ids"
        lines = zip(path.read_text().split("\n"), texts)
        path.write_text("".join(f"{line if has_one_best_cut(processor, text) else '-'}\n" for line, text in lines))
    return processor


def make_sentencepiece(texts):
    llama = train_sentencepiece("sp_bpe", texts, model_type="bpe", vocab_size=1800, byte_fallback=True, character_coverage=0.98,
                                normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
                                allow_whitespace_only_pieces=True)
    train_sentencepiece("sp_unigram", texts, model_type="unigram", vocab_size=1500, character_coverage=0.98,
                        normalization_rule_name="identity")
    # The same vocabulary as Hugging Face converts it: a BPE over characters with byte fallback.
    pieces = [llama.id_to_piece(i) for i in range(llama.get_piece_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    normal = {p for i, p in enumerate(pieces) if not (llama.is_control(i) or llama.is_unknown(i) or llama.is_byte(i))}
    merges = sorted((-llama.get_score(ids[p]), ids[p[:i]], ids[p[i:]], p[:i], p[i:])
                    for p in normal for i in range(1, len(p)) if p[:i] in normal and p[i:] in normal)
    tokenizer = Tokenizer(models.BPE(ids, [(left, right) for *_, left, right in merges], unk_token="<unk>", fuse_unk=True,
                                     byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    save("llama2", tokenizer)
    write_hf_golden("llama2", tokenizer, texts)
    escaped = [p.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0") for p in pieces]
    scores = [f"{piece}\t{llama.get_score(i)}" for i, piece in enumerate(escaped)]
    (HERE / "sp_bpe.vocab").write_text("\n".join(scores) + "\n", encoding="utf-8")


def make_chat_classes(texts):
    """What the Python classes of ChatGLM2/3, InternLM and Baichuan make of a turn. Special tokens cut the text, and what lies
    between two goes through sentencepiece alone; a text in which one of them is written is "-", and one that is empty, before
    which ChatGLM's class puts no space, but the template does."""
    llama = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "sp_bpe.model"))
    size = llama.get_piece_size()

    def write(name, processor, special, encode):
        controls = set(special) | {processor.id_to_piece(i) for i in range(processor.get_piece_size()) if processor.is_control(i)}
        words = processor.get_piece_size()
        write_golden(name, encode, lambda ids: processor.decode([i for i in ids if i < words]), words + len(special), texts)
        path = HERE / f"{name}.ids"
        lines = zip(path.read_text().split("\n"), texts)
        path.write_text("".join(f"{'-' if not text or any(c in text for c in controls) else line}\n" for line, text in lines))

    glm = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    glm_id = {token: size + i for i, token in enumerate(glm)}
    write("chatglm3", llama, glm, lambda text: [glm_id["[gMASK]"], glm_id["sop"], glm_id["<|user|>"]] + llama.encode("\n")
          + llama.encode(text) + [glm_id["<|assistant|>"]])
    write("chatglm2", llama, glm[:5], lambda text: [glm_id["[gMASK]"], glm_id["sop"]]
          + llama.encode("[Round 1]\n\n问：" + text + "\n\n答："))
    write("internlm", llama, ["<eoh>", "<eoa>"],
          lambda text: [llama.bos_id()] + llama.encode("<|User|>:" + text) + [size] + llama.encode("\n<|Bot|>:"))
    # Baichuan's model puts no space before a text and knows the markers of a turn itself.
    baichuan = train_sentencepiece("baichuan", texts, model_type="bpe", vocab_size=1500, byte_fallback=True,
                                   character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
                                   split_digits=True, add_dummy_prefix=False,
                                   user_defined_symbols=["<reserved_106>", "<reserved_107>"])
    write("baichuan", baichuan, [], lambda text: baichuan.encode("<reserved_106>" + text + "<reserved_107>"))


def make_unigram(texts):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    # Of names that are not in the corpus: a piece may not be there twice.
    special = ["<unk>", "<first>", "<last>"]
    counts = collections.Counter("".join(texts))  # rare characters stay unknown
    common = ["".join(c for c in text if counts[c] >= 20) for text in texts]
    tokenizer.train_from_iterator(common, trainers.UnigramTrainer(
        vocab_size=1200, unk_token="<unk>", special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<first> $A <last>", pair="$A $B", special_tokens=[("<first>", 1), ("<last>", 2)])
    save("unigram", tokenizer)
    write_hf_golden("unigram", tokenizer, texts)
    # The same with bytes for what it does not know.
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = [tuple(entry) for entry in model["vocab"]] + [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    fallback = Tokenizer(models.Unigram(vocabulary, unk_id=model["unk_id"], byte_fallback=True))
    fallback.pre_tokenizer = pre_tokenizers.Metaspace()
    fallback.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                          decoders.Strip(content=" ", left=1, right=0)])
    fallback.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    save("unigram_bytes", fallback)
    write_hf_golden("unigram_bytes", fallback, texts)


def make_tiktoken(texts):
    """A small file as Qwen's and GLM-4's, with what their Python classes put around it."""
    ranks = tiktoken._educational.bpe_train("\n".join(texts[::4]), 700, QWEN2, None)
    (HERE / "qwen.tiktoken").write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    end = len(ranks)

    def write(name, pattern, names, normalize, prefix):
        special = {n: end + i for i, n in enumerate(names)}
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)

        def encode(text):
            return [special[n] for n in prefix] + encoding.encode(normalize(text), allowed_special="all")

        def decode(ids):
            return encoding.decode([i for i in ids if i < end] if len(ids) % 2 == 0 else ids, errors="replace")

        write_golden(name, encode, decode, encoding.n_vocab, texts)

    qwen = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
    write("qwen", QWEN2, qwen, lambda text: unicodedata.normalize("NFC", text), [])
    glm4 = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
            "<|observation|>"]
    write("glm4", LLAMA3, glm4, lambda text: text, ["[gMASK]", "<sop>"])


def make_demo(path, texts):
    import gguf
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()
    pieces = field("tokens")
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [tuple(m.split(" ")) for m in field("merges")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p, t in zip(pieces, field("token_type")) if t == 3])
    write_hf_golden("demo", tokenizer, texts)


def main():
    texts = read_corpus()
    make_byte_level(texts)
    make_other_steps(texts)
    make_sentencepiece(texts)
    make_chat_classes(texts)
    make_unigram(texts)
    make_tiktoken(texts)
    if len(sys.argv) > 1:
        make_demo(sys.argv[1], texts)


main()
