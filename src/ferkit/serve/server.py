"""Run the application with uvicorn: the socket, its URL, timeouts, a clean shutdown.

Worker threads do the recognition, so that the event loop never blocks; their queue is bounded.
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
from ferkit.serve.requests import RequestError
from ferkit.serve.settings import Settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# In use, reserved for root, or not a port. All other errors are about the address.
_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES, errno.EPERM, socket.EAI_SERVICE)
# How long running requests may take to finish when the server is stopped.
_SHUTDOWN_S = 5
# How long an idle connection is kept. Longer than HTTPX keeps it (5 s): if both closed it at the same moment, a request
# would be lost in a closed connection.
_KEEP_ALIVE_S = 20


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises `FerkitError` if that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Windows would let two servers share one port.
        made = socket.create_server((host, port), family=family, backlog=256, reuse_port=False)
        # asyncio sets TCP_NODELAY only on sockets created with IPPROTO_TCP; without it each response is delayed by 40
        # ms.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())
    except (OSError, OverflowError, UnicodeError) as problem:
        why = str(getattr(problem, "strerror", None) or problem).rstrip(".")
        of_port = isinstance(problem, OverflowError) or getattr(problem, "errno", None) in _PORT_ERRORS
        other = "--port, or 0 for any" if of_port else "--host, such as 127.0.0.1"
        raise FerkitError(f"Cannot listen on {host}, port {port}: {why}. Choose another {other}.") from None


def url_of(listening: socket.socket) -> str:
    """The URL of the server for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - as configured
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _TimedHeadProtocol(H11Protocol):
    """Closes connections that send no complete request head in time (slow loris).

    Of uvicorn's two HTTP implementations this is the one that limits the size of the head, to 64 KiB.
    """

    head_s = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting: asyncio.TimerHandle | None = None
        self._start_or_stop_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._start_or_stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def _start_or_stop_timer(self) -> None:
        """Start the timer when no request is processed; stop it when one has arrived."""
        at_work = self.cycle is not None and not self.cycle.response_complete
        if at_work and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not at_work and self._waiting is None:
            self._waiting = self.loop.call_later(self.head_s, self._abort_if_idle)

    def _abort_if_idle(self) -> None:
        self._waiting = None
        at_work = self.cycle is not None and not self.cycle.response_complete
        if not at_work and self.transport.get_protocol() is self:  # else it was upgraded to a WebSocket
            self.transport.abort()


class _TimedCloseProtocol(AutoWebSocketsProtocol):  # type: ignore[misc, valid-type]
    """Closes a connection some time after its stream ended, even if the client does not read."""

    linger_s = 5.0

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(self.linger_s, self.transport.abort)


class WebServer(uvicorn.Server):
    """Serves one application until `stop()`, SIGINT or SIGTERM.

    Args:
        app: The application, as `create_app` returns it.
        settings: Access and limits; `host` is the address to listen on.
        port: Port to listen on; 0 picks a free one.
        trusted_proxies: Addresses of reverse proxies whose X-Forwarded-For header is trusted.
        on_ready: Called with the URL once the server accepts requests.

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
        self.address = url_of(self.listening)
        config = uvicorn.Config(
            app,
            access_log=False,  # requests are not logged
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=trusted_proxies is not None,
            forwarded_allow_ips=trusted_proxies,
            timeout_graceful_shutdown=_SHUTDOWN_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
            http=_TimedHeadProtocol,
            ws=_TimedCloseProtocol,
            ws_max_size=settings.limits.frame_bytes,
            ws_per_message_deflate=False,  # frames are compressed already
        )
        super().__init__(config)

    def serve_until_stopped(self) -> None:
        """Serve; returns after a clean shutdown, also by a signal."""
        try:
            self.run([self.listening])
        finally:
            self.listening.close()

    def stop(self) -> None:
        """Ask the server to stop; may be called from any thread."""
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.on_ready(self.address)

    async def shutdown(self, sockets: Any = None) -> None:
        # Before uvicorn does it, with close code 1012 (service restart).
        for server in self.servers:
            server.close()
        await self.app.state.streams.close_all()
        await asyncio.sleep(0)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again at the end, as uvicorn does, which would look like a failure."""
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


if sys.platform == "win32":  # Ctrl-Break in a terminal
    _SIGNALS = (*_SIGNALS, signal.SIGBREAK)


P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Two pools with a thread per core: frames of live streams do not wait behind queued images.

    queue: number of requests that may wait while all threads for images are busy.
    """

    def __init__(self, queue: int) -> None:
        threads = usable_cores()
        self.slots = threads + queue
        self.taken = 0
        self._pictures = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-pictures")
        self._frames = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-frames")

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot in the queue, held until the response. Raises `RequestError` 503 if none is free."""
        if self.taken >= self.slots:
            message = f"All workers are busy: {self.slots} requests are running or waiting. Try again in 1 s."
            raise RequestError(503, "busy", message, headers={"Retry-After": "1"})
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
            except StopIteration as problem:  # would leave the awaiting coroutine waiting forever
                raise RuntimeError("Work ended in StopIteration.") from problem

        return await asyncio.get_running_loop().run_in_executor(pool, shielded)

    def close(self) -> None:
        """End the threads: wait for running work, drop waiting work."""
        for pool in (self._pictures, self._frames):
            pool.shutdown(wait=True, cancel_futures=True)
