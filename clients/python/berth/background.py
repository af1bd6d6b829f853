"""An event loop on a thread of its own, for callers without one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass
class _End:
    error: BaseException | None


class Background:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="berth", daemon=True)
        self._thread.start()

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
        cancel = self._produce(items, arrived.put)
        item: _T | _End | None = None
        try:
            while not isinstance(item := arrived.get(), _End):
                yield item
        finally:
            cancel()
            while not isinstance(item, _End) and self._can_be_waited_for():
                item = arrived.get()
        if isinstance(item, _End) and item.error is not None:
            raise item.error

    async def follow(self, items: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
        """iterate() for another event loop."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[_T | _End] = asyncio.Queue()
        cancel = self._produce(items, lambda item: loop.call_soon_threadsafe(arrived.put_nowait, item))
        item: _T | _End | None = None
        try:
            while not isinstance(item := await arrived.get(), _End):
                yield item
        finally:
            cancel()
            while not isinstance(item, _End):
                item = await arrived.get()
        if item.error is not None:
            raise item.error

    def _can_be_waited_for(self) -> bool:
        """Not when the program ends, which stops the loop's thread, nor in that thread, where the garbage collector may be."""
        return not sys.is_finalizing() and threading.current_thread() is not self._thread

    def _produce(self, items: AsyncGenerator[_T, None], put: Callable[[_T | _End], object]) -> Callable[[], object]:
        """Puts the items, and an _End once `items` is closed. Returns what ends it early."""
        tasks: list[asyncio.Task[None]] = []

        async def produce() -> None:
            async with contextlib.aclosing(items):
                async for item in items:
                    put(item)

        def start() -> None:
            tasks.append(self._loop.create_task(produce()))
            tasks[0].add_done_callback(finish)

        def finish(task: asyncio.Task[None]) -> None:
            put(_End(asyncio.CancelledError() if task.cancelled() else task.exception()))

        self._loop.call_soon_threadsafe(start)
        return lambda: self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())


@functools.lru_cache(maxsize=1)
def _of_process(pid: int) -> Background:
    return Background()


def background() -> Background:
    """The process's own. gRPC's asyncio part wants one loop that lasts; a forked process needs another."""
    return _of_process(os.getpid())
