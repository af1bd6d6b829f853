"""An event loop on a thread of its own, for callers without one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass
class _End:
    error: BaseException | None


class Background:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="berth", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` returns. An interrupt, such as Ctrl-C, cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[_T, None]) -> Generator[_T, None, None]:
        """The items. Leaving the loop closes `items`, and returns when that is done."""
        arrived: queue.SimpleQueue[_T | _End] = queue.SimpleQueue()

        async def produce() -> None:
            error: BaseException | None = None
            try:
                async with contextlib.aclosing(items):
                    async for item in items:
                        arrived.put(item)
            except BaseException as caught:
                error = caught
            arrived.put(_End(error))

        future = asyncio.run_coroutine_threadsafe(produce(), self._loop)
        end: _End | None = None
        try:
            while end is None:
                item = arrived.get()
                if isinstance(item, _End):
                    end = item
                else:
                    yield item
        finally:
            future.cancel()
            while end is None:
                item = arrived.get()
                end = item if isinstance(item, _End) else None
        if end.error is not None:
            raise end.error


@functools.lru_cache(maxsize=1)
def _of_process(pid: int) -> Background:
    return Background()


def background() -> Background:
    """The process's own. gRPC's asyncio part wants one loop that lasts; a forked process needs another."""
    return _of_process(os.getpid())
