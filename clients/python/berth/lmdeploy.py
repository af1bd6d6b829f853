"""LMDeploy's options that Berth has no use for: taken where the answer does not depend on them, else refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from berth import errors


def only(*accepted: Any, what: str = "", instead: str = "") -> Any:
    """A field that may have these values, the first by default. what: names the feature that others would need."""
    return field(default=accepted[0], metadata={"accepted": accepted, "what": f" ({what})" if what else "", "instead": instead})


@dataclass
class Options:
    def check(self) -> None:
        """UnsupportedError for what does not exist."""
        for option in fields(self):
            value = getattr(self, option.name)
            if "accepted" in option.metadata and value not in option.metadata["accepted"]:
                raise errors.unsupported(f"{option.name}={value!r}{option.metadata['what']}", option.metadata["instead"])


def take(options: type[Options], given: dict[str, Any]) -> dict[str, Any]:
    """Checks those that are `options`; returns the others."""
    names = {option.name for option in fields(options)}
    options(**{name: value for name, value in given.items() if name in names}).check()
    return {name: value for name, value in given.items() if name not in names}


@dataclass(kw_only=True)
class PipelineOptions(Options):
    chat_template_config: Any = only(
        None, instead="the model's own template is used; pass messages, or do_preprocess=False"
    )
    speculative_config: Any = only(None, what="speculative decoding")
    log_level: str = "WARNING"
    max_log_len: int | None = None
    trust_remote_code: bool = False
    allowed_media_domains: Any = None


@dataclass(kw_only=True)
class TurnOptions(Options):
    input_embeddings: Any = only(None)
    input_embedding_ranges: Any = only(None)


_STEP = "worker_flags=['--step-tokens=N'] bounds a step"


@dataclass(kw_only=True)
class EngineOptions(Options):
    dp: int = only(1, what="data parallelism within a worker", instead="workers=N serves a copy on each GPU")
    cp: int = only(1, what="context parallelism")
    ep: int = only(1, what="expert parallelism")
    nnodes: int = only(1, what="a worker over several hosts")
    node_rank: int = only(0)
    dist_init_addr: str | None = only(None)
    device_num: int | None = only(None, 1)
    attn_tp_size: int | None = only(None, 1)
    attn_cp_size: int | None = only(None, 1)
    attn_dp_size: int | None = only(None, 1)
    mlp_tp_size: int | None = only(None, 1)
    mlp_dp_size: int | None = only(None, 1)
    outer_dp_size: int | None = only(None, 1)
    devices: list[int] | None = only(None, [0], instead="CUDA_VISIBLE_DEVICES says which GPUs workers=N take")
    download_dir: str | None = only(None, instead="the variable HF_HUB_CACHE says where models lie")
    revision: str | None = only(None, instead="pass the directory of what is to be served")
    hf_overrides: Any = only(None, {}, instead="the model's config.json decides")
    use_logn_attn: bool = only(False, instead="the model's config.json decides")
    empty_init: bool = only(False)
    num_tokens_per_iter: int = only(0, instead=_STEP)
    max_prefill_iters: int = only(1, instead=_STEP)
    max_prefill_token_num: int = 8192
    cache_block_seq_len: int = 64
    cache_chunk_size: int = -1
    cache_checkpoint_interval: int = 4096
    cache_prompt: str = "auto"
    cache_prompt_boundary_skip: int = 1
    cache_generation: str = "auto"
    async_: int = 1
    language_model_only: bool = False
    communicator: str = "nccl"
    enable_metrics: bool = True


@dataclass(kw_only=True)
class GenerationOptions(Options):
    logits_processors: Any = only(None, [])
    output_logits: str | None = only(None)
    output_last_hidden_state: str | None = only(None)
    return_ppl: bool = only(False, instead="prompt_logprobs=True with logprobs=0 gives what it is the mean of")
    return_routed_experts: bool = only(False)
    with_cache: bool = only(False)
    preserve_cache: bool = only(False)
    migration_request: Any = only(None)
    repetition_ngram_size: int = only(0)
    repetition_ngram_threshold: int = only(0)
