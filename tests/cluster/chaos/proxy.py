"""A TCP proxy on loopback that can stop passing anything on while its connections stay open."""
import asyncio


class Proxy:
    @classmethod
    async def start(cls, target):
        proxy = cls()
        proxy._target = target
        proxy._open = asyncio.Event()
        proxy._open.set()
        proxy._tasks = set()
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = proxy._server.sockets[0].getsockname()[1]
        return proxy

    def drop(self):
        self._open.clear()

    def heal(self):
        self._open.set()

    async def stop(self):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))
        except (OSError, asyncio.CancelledError):  # the server's own callback would log a cancelled task
            writer.close()

    async def _pass_on(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
