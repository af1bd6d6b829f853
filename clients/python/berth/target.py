"""What a pipeline is made for: a model on this machine, or a server."""

from __future__ import annotations

import os
import re

from berth import errors


def is_address(target: str) -> bool:
    """Whether a target is a server; else it is a model: a path, or org/name, which `berth serve` looks up. An error for
    what is neither."""
    if os.path.exists(target):
        return False
    if re.fullmatch(r"(?:[a-z]+:///?)?[\w.\-]+:\d+|\[[0-9a-fA-F:]+\]:\d+|(?:dns|ipv4|ipv6|unix):\S+", target):
        if target.startswith(("http://", "https://")):
            raise errors.invalid(
                "model", f"is {target!r}: give the gRPC port as host:port (23334 by default), not the HTTP one"
            )
        return True
    if re.fullmatch(r"[\w.\-]+/[\w.\-]+-4bit", target):
        raise errors.unsupported(
            f"{target!r} (4-bit weights)", "pass a GGUF file or an unquantised Hugging Face directory"
        )
    if re.fullmatch(r"\w[\w.\-]*/[\w\-][\w.\-]*", target):
        return False
    raise errors.invalid("model", f"is {target!r}: neither a file or directory, org/name of the Hugging Face hub, nor host:port of a server")
