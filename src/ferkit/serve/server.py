"""Run the application with uvicorn: the socket, its URL, timeouts, a clean shutdown.

Worker threads do the recognition, so that the event loop never blocks; their queue is bounded.
"""

import asyncio
import errno
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ferkit._support.parallel import usable_cores
from ferkit.errors import FerkitError
from ferkit.serve.requests import RequestError
from ferkit.serve.settings import Limits, Settings, network_of

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


class _Config(uvicorn.Config):
    limits: Limits
    connections: int  # how many there may be
    parts: "WeakValueDictionary[str, _Parts]"  # by client, as long as it has a connection


class _Parts:
    """How many parts one client sends, chunks and messages: each costs time in the event loop, however small it is.

    One per kilobyte is free, so that only small ones count.
    """

    per_s, burst = 2000.0, 10_000.0

    def __init__(self) -> None:
        self._level, self._since = 0.0, time.monotonic()

    def are_too_many(self, parts: int, size: int) -> bool:
        """Count parts that came in so many bytes."""
        now = time.monotonic()
        small = max(0, parts - 1 - size // 1024)
        self._level = max(0.0, self._level - (now - self._since) * self.per_s) + small
        self._since = now
        return small > 0 and self._level > self.burst


# Bytes that are parsed before their parts are counted.
_COUNTED_BYTES = 1 << 13


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _COUNTED_BYTES] for start in range(0, len(data), _COUNTED_BYTES))


class _TimedHeadProtocol(H11Protocol):
    """Closes connections that send no complete request head in time (slow loris), or read no response.

    Of uvicorn's two HTTP implementations this is the one that limits the size of the head, to 64 KiB.
    """

    head_s = 20.0
    config: _Config

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.network, self.touched = network_of((self.client or ("unknown",))[0]), self.loop.time()
        self._waiting: asyncio.TimerHandle | None = None
        self._unread = self._chunks = 0
        self._parts = self.config.parts.setdefault(self.network, _Parts())
        self._next_event = self.conn.next_event
        self.conn.next_event = self._count_event  # type: ignore[method-assign]
        self._start_or_stop_timer()
        self._reading = self.loop.call_later(self.config.limits.send_s, self._abort_if_unread)
        _close_beyond(self.config.connections, self.connections)

    def data_received(self, data: bytes) -> None:
        self.touched = self.loop.time()
        for piece in _pieces(data):
            self._chunks = 0
            super().data_received(piece)
            if self._parts.are_too_many(self._chunks, len(piece)):
                if self.conn.our_state is h11.SEND_RESPONSE:
                    self.send_400_response("The body comes in too many small chunks. Send larger ones.")
                else:
                    self.transport.abort()
            if self.transport.is_closing():
                return
        self._start_or_stop_timer()

    def _count_event(self) -> Any:
        event = self._next_event()
        self._chunks += isinstance(event, h11.Data)
        return event

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._reading.cancel()
        if self._waiting is not None:
            self._waiting.cancel()

    def _abort_if_unread(self) -> None:
        """Looked at again and again, also while the connection is closing: that waits for the client to read."""
        unread = self.transport.get_write_buffer_size()
        if 0 < self._unread <= unread:
            self.transport.abort()
            return
        self._unread = unread
        if self.transport.get_protocol() is self:  # else it was upgraded to a WebSocket
            self._reading = self.loop.call_later(self.config.limits.send_s, self._abort_if_unread)

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


class _TimedCloseProtocol(WebSocketsSansIOProtocol):
    """Closes a connection some time after its stream ended, even if the client does not read, and a flood of messages."""

    linger_s = 5.0
    config: _Config

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.network, self.touched = network_of((self.client or ("unknown",))[0]), self.loop.time()
        self._parts = self.config.parts.setdefault(self.network, _Parts())
        self._frames, self._flooded = 0, False

    def data_received(self, data: bytes) -> None:
        self.touched = self.loop.time()
        for piece in _pieces(data):
            if self._flooded:
                return
            self._frames = 0
            super().data_received(piece)
            # Each costs more than a chunk: it may be answered, and wakes a task.
            if self._parts.are_too_many(2 * self._frames, len(piece)) and not self.transport.is_closing():
                self._flooded = True
                self.conn.fail(1008, "Too many small messages.")
                self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # what broke came with the handshake, before it was answered
            self.transport.abort()
        else:
            super().handle_parser_exception()

    def handle_events(self) -> None:
        self._frames += len(self.conn.events)
        super().handle_events()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(self.linger_s, self.transport.abort)


def _close_beyond(most: int, connections: set[Any]) -> None:
    """Where there are too many connections, close one of the client with the most: the one that was silent longest."""
    if len(connections) <= most:
        return
    clients = Counter(one.network for one in connections)
    crowd = max(clients, key=lambda client: clients[client])
    silent = min((one for one in connections if one.network == crowd), key=lambda one: one.touched)
    connections.discard(silent)
    silent.transport.abort()


# Accepted at once: connections are counted, and closed, only some turns of the event loop after that.
_ACCEPTED = 8
# What waits to be accepted. Beyond that clients would try again after a second.
_BACKLOG = 1024
# For connections that are not counted yet or not closed yet, and for files and libraries.
_SPARE_DESCRIPTORS = 96


def _room(most: int) -> int:
    """How many connections there may be, of so many, for this process never to run out of descriptors."""
    try:
        import resource
    except ImportError:  # Windows: sockets are no descriptors
        return most
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return most
    try:
        in_use = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except OSError:
        in_use = _SPARE_DESCRIPTORS
    # Two for each: its socket, and a file of the page that it reads.
    return max(1, min(most, (allowed - in_use - _SPARE_DESCRIPTORS) // 2))


class _Seldom(logging.Filter):
    """Drops what was logged in the last seconds in the same words: anyone can make a server complain, at any rate."""

    every_s = 10.0

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, words = time.monotonic(), str(record.msg)[:200]
        if now - self._last.get(words, -math.inf) < self.every_s:
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[words] = now
        if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
            record.exc_info = None  # a client's text that is no UTF-8: no fault of the server
        return True


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
        config = _Config(
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
            backlog=_ACCEPTED,
        )
        config.parts = WeakValueDictionary()
        config.limits, config.connections = settings.limits, _room(settings.limits.connections)
        super().__init__(config)

    def serve_until_stopped(self) -> None:
        """Serve; returns after a clean shutdown, also by a signal."""
        seldom = _Seldom()
        loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
        for one in loggers:
            one.addFilter(seldom)
        try:
            self.run([self.listening])
        finally:
            self.listening.close()
            for one in loggers:
                one.removeFilter(seldom)

    def stop(self) -> None:
        """Ask the server to stop; may be called from any thread."""
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.listen(_BACKLOG)  # asyncio takes the length of the queue for how many it accepts at once
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

    A thread cannot be ended. Work that exceeds its time is answered without it; a spare thread takes over, until there
    are none left, and `stuck` says so.
    """

    def __init__(self, limits: Limits) -> None:
        self._threads = usable_cores()
        self._seconds = limits.work_s
        self.slots = self._threads + limits.queue
        self.taken = 0
        self._pictures, self._frames = (_Pool(self._threads, f"ferkit-{name}") for name in ("pictures", "frames"))

    def check_room(self, client: str) -> None:
        """Raises `RequestError` 503 if this client gets no slot."""
        if self.taken >= self.slots and self._pictures.turns.crowd(client) is None:
            raise self._busy()

    @contextmanager
    def slot(self, client: str) -> Iterator[None]:
        """A slot in the queue, held until the response.

        If none is free, the client that waits most often loses one. Raises `RequestError` 503 if that is this client.
        """
        self.check_room(client)
        if self.taken >= self.slots:
            self._pictures.turns.end_last_of_crowd(client, self._busy())
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _busy(self) -> RequestError:
        message = f"All workers are busy: {self.slots} requests are running or waiting. Try again in 1 s."
        return RequestError(503, "busy", message, headers={"Retry-After": "1"})

    @property
    def stuck(self) -> bool:
        """Whether so much work exceeded its time without ending that hardly any can be done."""
        return any(pool.lost > _SPARE_THREADS for pool in (self._pictures, self._frames))

    @property
    def running(self) -> bool:
        """Whether a thread is at work."""
        return any(pool.running for pool in (self._pictures, self._frames))

    async def on_pictures(self, client: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._pictures, client, lambda: work(*args, **kwargs))

    async def on_frame(self, client: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._frames, client, lambda: work(*args, **kwargs))

    async def _run(self, pool: "_Pool", client: str, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await pool.run(client, work)
        except TimeoutError:
            message = f"No result within {self._seconds:g} s. Send fewer or smaller images."
            raise RequestError(503, "too_slow", message, headers={"Retry-After": "1"}) from None

    def close(self) -> None:
        """Drop waiting work. Running work is not waited for: it may never end."""
        for pool in (self._pictures, self._frames):
            pool.executor.shutdown(wait=False, cancel_futures=True)


class _Turns:
    """Who works next: of so many at once, clients take turns, so that one with much work holds up itself alone."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the first client is the next

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn of this client, and keep it until the block ends."""
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            line = self._waiting.setdefault(client, deque())
            line.append(turn)
            try:
                await turn
            except BaseException:
                if turn in line:
                    line.remove(turn)
                    if not line:
                        self._waiting.pop(client, None)
                elif not turn.cancelled() and turn.exception() is None:
                    self._pass_on()  # it came at the moment in which nobody waited any more
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            client = next(iter(self._waiting))
            line = self._waiting.pop(client)
            turn = line.popleft()
            if line:
                self._waiting[client] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def crowd(self, client: str) -> str | None:
        """Who waits most often, if that is at least twice more than this client does."""
        most = max(self._waiting, key=lambda one: len(self._waiting[one]), default=client)
        own = len(self._waiting.get(client, ()))
        return most if len(self._waiting.get(most, ())) > own + 1 else None

    def end_last_of_crowd(self, client: str, problem: RequestError) -> None:
        crowd = self.crowd(client)
        if crowd is not None:
            turn = self._waiting[crowd].pop()
            if not turn.done():
                turn.set_exception(problem)


# Threads that take over from those that do not end.
_SPARE_THREADS = 8


class _Pool:
    """Threads, of which so many work at once. running: all that are at work. lost: those that nobody waits for."""

    def __init__(self, threads: int, name: str) -> None:
        self.executor = ThreadPoolExecutor(threads + _SPARE_THREADS, thread_name_prefix=name)
        self.running = self.lost = 0
        self.turns = _Turns(threads)
        self._counting = threading.Lock()

    async def run(self, client: str, work: Callable[[], T]) -> T:
        state = {"begun": False, "given up": False}

        def shielded() -> T:
            with self._counting:
                self.running += 1
                state["begun"] = True
            try:
                return work()
            except StopIteration as problem:  # would leave the awaiting coroutine waiting forever
                raise RuntimeError("Work ended in StopIteration.") from problem
            finally:
                with self._counting:
                    self.running -= 1
                    self.lost -= state["given up"]

        async with self.turns.of(client):
            try:
                return await asyncio.get_running_loop().run_in_executor(self.executor, shielded)
            except asyncio.CancelledError:
                with self._counting:
                    state["given up"] = state["begun"]
                    self.lost += state["begun"]
                raise
