"""Running the application: a socket of our own, an address to announce, a clean stop.

Threads that do the work, so that the event loop never waits; and a queue with an end.
"""

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from ferkit._support.parallel import usable_cores
from ferkit.errors import FerkitError
from ferkit.serve.limits import Refusal
from ferkit.serve.settings import Settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Taken by another, for those with more rights, or no port at all. All else that forbids listening is about the address.
_OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES, errno.EPERM, socket.EAI_SERVICE)
# Requests that are at work when the server is told to stop get so long to end.
_GRACE_S = 5
# For which an unused connection is kept. Longer than HTTPX keeps it (5 s): where both give up at the same moment, a request
# goes into a closed connection and is lost.
_KEEP_S = 20


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free. Raises `FerkitError` where that cannot be."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Windows would let two servers have one port.
        made = socket.create_server((host, port), family=family, backlog=256, reuse_port=False)
        # asyncio sends at once only through sockets that say they are TCP; else each answer waits 40 ms for an
        # acknowledgement (Nagle's algorithm).
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())
    except (OSError, OverflowError, UnicodeError) as problem:
        why = str(getattr(problem, "strerror", None) or problem).rstrip(".")
        of_port = isinstance(problem, OverflowError) or getattr(problem, "errno", None) in _OF_THE_PORT
        other = "--port, or 0 for any" if of_port else "--host, such as 127.0.0.1"
        raise FerkitError(f"Cannot listen on {host}, port {port}: {why}. Take another {other}.") from None


def address_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what was asked for
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Punctual(H11Protocol):
    """A connection that is cut where no request comes: who sends its head a letter at a time would keep it for ever.

    Of uvicorn's two ways to read HTTP this is the one that bounds the head, to 64 KiB.
    """

    head_s = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting: asyncio.TimerHandle | None = None
        self._expect_a_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_a_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def _expect_a_request(self) -> None:
        """Start counting where no request is at work, go on where it was started, and stop where one has come."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        if at_work and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not at_work and self._waiting is None:
            self._waiting = self.loop.call_later(self.head_s, self._give_up)

    def _give_up(self) -> None:
        self._waiting = None
        at_work = self.cycle is not None and not self.cycle.response_complete
        if not at_work and self.transport.get_protocol() is self:  # else it has become a stream
            self.transport.abort()


class _Impatient(AutoWebSocketsProtocol):  # type: ignore[misc, valid-type]
    """A connection that is cut some time after its stream ended: who never reads would keep it, and what it holds."""

    linger_s = 5.0

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(self.linger_s, self.transport.abort)


class WebServer(uvicorn.Server):
    """Serves one application until it is told to stop: `stop()`, SIGINT or SIGTERM.

    on_ready: is called with the address once requests are taken.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        port: int = 8000,
        trusted_proxies: str | None = None,
        on_ready: Callable[[str], None] = lambda address: None,
    ) -> None:
        self.app, self.on_ready = app, on_ready
        self.listening = listen(settings.host, port)
        self.address = address_of(self.listening)
        config = uvicorn.Config(
            app,
            access_log=False,  # nothing about who asked what
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=trusted_proxies is not None,
            forwarded_allow_ips=trusted_proxies,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=_KEEP_S,
            http=_Punctual,
            ws=_Impatient,
            ws_max_size=settings.limits.frame_bytes,
            ws_per_message_deflate=False,  # frames are compressed already
        )
        super().__init__(config)

    def serve_until_stopped(self) -> None:
        """Returns after a clean stop, also by a signal: that is how a server ends."""
        try:
            self.run([self.listening])
        finally:
            self.listening.close()

    def stop(self) -> None:
        """Ask the server to end; may be called from any thread."""
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.on_ready(self.address)

    async def shutdown(self, sockets: Any = None) -> None:
        # Before uvicorn, which would tell streams that the service restarts (1012).
        for server in self.servers:
            server.close()
        await self.app.state.streams.close_all()
        await asyncio.sleep(0)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The one of uvicorn raises the signal again at the end, and a server that was stopped would look like a failure."""
        try:
            before = {one: signal.signal(one, self.handle_exit) for one in _SIGNALS}
        except ValueError:  # not in the main thread
            yield
            return
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


if sys.platform == "win32":  # Ctrl-Break in its terminal
    _SIGNALS = (*_SIGNALS, signal.SIGBREAK)


P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """As many threads as cores, twice: frames of live streams do not wait behind a queue of pictures.

    queue: requests that may wait while all threads for pictures are busy.
    """

    def __init__(self, queue: int) -> None:
        threads = usable_cores()
        self.places = threads + queue
        self.taken = 0
        self._pictures = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-pictures")
        self._frames = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-frames")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, held until the answer is there. Raises `Refusal` 503 where none is left."""
        if self.taken >= self.places:
            message = f"All workers are busy and {self.places} requests are at work or waiting. Try again in 1 s."
            raise Refusal(503, "busy", message, headers={"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def on_pictures(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._pictures, lambda: work(*args, **kwargs))

    async def on_frame(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._frames, lambda: work(*args, **kwargs))

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        def shielded() -> T:
            try:
                return work()
            except StopIteration as problem:  # would leave who awaits it waiting for ever
                raise RuntimeError("Work ended in StopIteration.") from problem

        return await asyncio.get_running_loop().run_in_executor(pool, shielded)

    def close(self) -> None:
        """End the threads; what they are at is waited for, what waits is dropped."""
        for pool in (self._pictures, self._frames):
            pool.shutdown(wait=True, cancel_futures=True)
