"""Live streams over WebSocket: frames in, faces out, always the newest frame. docs/serve.md states the protocol."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ferkit.errors import FerkitError
from ferkit.results import Box
from ferkit.serve.guard import KEY_PREFIX, PROTOCOL, WebMetrics, check_key, key_of
from ferkit.serve.requests import FRAME_FORMATS, RequestError, check_picture
from ferkit.serve.server import Workers
from ferkit.serve.settings import Limits, Settings, network_of
from ferkit.sources import RgbImage, read_image
from ferkit.video import TrackedFace

GOING_AWAY, UNSUPPORTED, POLICY, TRY_LATER, WRONG_KEY = 1001, 1003, 1008, 1013, 4401
# A close frame has room for 125 bytes, of which the code takes 2.
_MAX_REASON_BYTES = 120
_COMMANDS = ("reset",)
# Browsers cannot set headers of a WebSocket.
_KEY_OF_A_STREAM = (
    f"Expected the API key: from a browser as the subprotocol {KEY_PREFIX}KEY, KEY in URL-safe base64 without padding, beside "
    f"{PROTOCOL}; else as Authorization: Bearer KEY, or X-API-Key: KEY."
)


class Follow(Protocol):
    """Tracks faces from frame to frame, as `ferkit.video.FaceFollower` does."""

    def __call__(self, image: RgbImage, time_s: float, /) -> list[TrackedFace]: ...

    def hidden(self, time_s: float, /) -> tuple[Box, ...]: ...


@dataclass(frozen=True)
class _Frame:
    number: int
    data: bytes
    arrived: float
    follow: Follow  # as of its arrival: a reset applies to later frames


class _End(Exception):  # noqa: N818 - control flow, not an error
    """Ends a stream with a close code."""

    def __init__(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason


class Streams:
    """All live streams of a server."""

    def __init__(self, settings: Settings, workers: Workers, metrics: WebMetrics, classes: Sequence[str]) -> None:
        self.settings, self.workers, self.metrics, self.classes = settings, workers, metrics, tuple(classes)
        self._open: set[_Stream] = set()
        self._closing = False

    async def serve(self, websocket: WebSocket, make: Callable[[], Follow]) -> None:
        """Run one stream until either side ends it."""
        offered = await _accept(websocket)
        try:
            check_key(key_of(websocket.headers, offered), self.settings.api_key)
            client = network_of(websocket.client.host if websocket.client else "unknown")
            self._make_room(client)
        except RequestError as problem:
            await self.refuse(websocket, problem)
            return
        stream = _Stream(websocket, self, make, client)
        self._open.add(stream)
        self.metrics.streams.inc()
        try:
            await stream.run()
        finally:
            self._open.discard(stream)
            self.metrics.streams.dec()

    async def refuse(self, websocket: WebSocket, problem: RequestError) -> None:
        """Say why there is no stream, and close. Browsers show a page only what comes after the handshake."""
        self.metrics.refusals.labels(problem.code).inc()
        if websocket.application_state is WebSocketState.CONNECTING:
            await _accept(websocket)
        code = {401: WRONG_KEY, 422: POLICY}.get(problem.status, GOING_AWAY if self._closing else TRY_LATER)
        said = problem.to_dict()["error"]
        if code == WRONG_KEY:
            said["message"] = _KEY_OF_A_STREAM
        await _send_and_close(websocket, {"type": "error", "frame": None, **said}, code)

    def _make_room(self, client: str) -> None:
        """Where all streams are in use, the client with the most loses the one that sent nothing for longest.

        Raises `RequestError` if that is this client, or has but one more.
        """
        if self._closing:
            raise RequestError(503, "stopping", "The server is stopping.")
        if len(self._open) < self.settings.limits.streams:
            return
        clients = Counter(one.client for one in self._open)
        crowd = max(clients, key=lambda one: clients[one])
        if clients[crowd] <= clients[client] + 1:
            message = f"All {self.settings.limits.streams} live streams are in use. Try again later."
            raise RequestError(503, "too_many_streams", message)
        silent = min((one for one in self._open if one.client == crowd), key=lambda one: one.touched)
        self._open.discard(silent)
        silent.ask_to_end(TRY_LATER, "All live streams are in use, and another client has none.")

    async def close_all(self) -> None:
        """End every stream with 1001 and accept no more."""
        self._closing = True
        waiting = [stream.end(GOING_AWAY, "The server is stopping.") for stream in tuple(self._open)]
        if waiting:
            await asyncio.wait([asyncio.ensure_future(one) for one in waiting], timeout=2)


class _Stream:
    """One connection: a task that receives, a task that responds, and the newest frame between them."""

    def __init__(self, websocket: WebSocket, streams: Streams, make: Callable[[], Follow], client: str) -> None:
        self.client, self.touched = client, time.monotonic()
        self.websocket, self.metrics, self.workers = websocket, streams.metrics, streams.workers
        self.limits: Limits = streams.settings.limits
        self.classes = streams.classes
        self.make = make
        self.follow = make()
        self.received = self.dropped = self.bad_in_a_row = 0
        self.newest: _Frame | None = None
        self.arrival = asyncio.Event()
        self.ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._respond())]
        end = _End(1011, "Internal error.")
        try:
            done, _ = await asyncio.wait({*tasks, self.ending}, return_when=asyncio.FIRST_COMPLETED)
            problem = done.pop().exception()
            if isinstance(problem, _End):
                end = problem
            elif problem is not None and not isinstance(problem, WebSocketDisconnect):
                raise problem
        finally:
            for task in (*tasks, self.ending):
                task.cancel()
            await asyncio.gather(*tasks, self.ending, return_exceptions=True)
            self.newest = None
            await _close(self.websocket, end.code, end.reason)
            self.ended.set()

    async def end(self, code: int, reason: str) -> None:
        """End the stream from outside, and wait for it."""
        self.ask_to_end(code, reason)
        await self.ended.wait()

    def ask_to_end(self, code: int, reason: str) -> None:
        if not self.ending.done():
            self.ending.set_exception(_End(code, reason))

    async def _receive(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.limits.idle_s):
                    message = await self.websocket.receive()
            except TimeoutError:
                raise _End(1000, f"No frame for {self.limits.idle_s:g} s.") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if message.get("bytes") is not None:
                self._take(message["bytes"])
            else:
                self._handle_text(message.get("text") or "")

    def _take(self, data: bytes) -> None:
        self.received += 1
        if self.newest is not None:
            self.dropped += 1
            self.metrics.frames.labels("dropped").inc()
        self.touched = time.monotonic()
        self.newest = _Frame(self.received, data, self.touched, self.follow)
        self.arrival.set()

    def _handle_text(self, text: str) -> None:
        try:
            word = json.loads(text).get("type")
        except (ValueError, AttributeError, RecursionError):
            word = None
        if word not in _COMMANDS:
            raise _End(UNSUPPORTED, 'Expected a binary JPEG or WebP frame, or {"type": "reset"}.')
        self.follow = self.make()

    async def _respond(self) -> None:
        await self._send({"type": "hello", "protocol": PROTOCOL, "classes": self.classes, **self._stream_limits()})
        while True:
            await self.arrival.wait()
            self.arrival.clear()
            frame, self.newest = self.newest, None
            if frame is None:
                continue
            begun = time.monotonic()
            try:
                result = await self.workers.on_frame(self.client, _process, frame, self.limits)
            except FerkitError as problem:
                await self._send_error(frame, problem)
                if isinstance(problem, RequestError) and problem.code == "too_slow":
                    # The thread may still be at it, and the tracker belongs to one thread at a time.
                    raise _End(POLICY, "A frame took too long.") from None
                continue
            self.bad_in_a_row = 0
            now = time.monotonic()
            self.metrics.frames.labels("answered").inc()
            self.metrics.faces.inc(len(result["faces"]))
            self.metrics.frame_seconds.observe(now - frame.arrived)
            spent = {"waited_ms": _ms(begun - frame.arrived), "worked_ms": _ms(now - begun)}
            await self._send({"type": "faces", "frame": frame.number, **self._counts(), **result, **spent})

    async def _send_error(self, frame: _Frame, problem: FerkitError) -> None:
        self.metrics.frames.labels("unreadable").inc()
        code = problem.code if isinstance(problem, RequestError) else "bad_picture"
        self.bad_in_a_row += 1
        await self._send(
            {"type": "error", "frame": frame.number, **self._counts(), "code": code, "message": str(problem)}
        )
        if self.bad_in_a_row >= self.limits.bad_frames:
            raise _End(UNSUPPORTED, f"{self.bad_in_a_row} frames in a row could not be read.")

    def _stream_limits(self) -> dict[str, Any]:
        limits = self.limits
        return {"frame_bytes": limits.frame_bytes, "frame_pixels": limits.frame_pixels, "idle_s": limits.idle_s}

    def _counts(self) -> dict[str, int]:
        return {"received": self.received, "dropped": self.dropped}

    async def _send(self, document: dict[str, Any]) -> None:
        """Send; a client that reads slowly delays only its own stream, for a limited time."""
        try:
            async with asyncio.timeout(self.limits.send_s):
                await self.websocket.send_text(json.dumps(document, allow_nan=False, separators=(",", ":")))
        except TimeoutError:
            raise _End(POLICY, f"The client read no responses for {self.limits.send_s:g} s.") from None
        except RuntimeError:  # the connection broke its protocol, and is closed already
            raise WebSocketDisconnect(1006) from None


def _process(frame: _Frame, limits: Limits) -> dict[str, Any]:
    """Detect, track and classify the faces of one frame. Runs on a worker."""
    name = f"frame {frame.number}"
    check_picture(frame.data, name, limits.frame_pixels, FRAME_FORMATS)
    image = read_image(frame.data)
    faces = frame.follow(image, frame.arrived)
    height, width = image.shape[:2]
    expected = (Box.inside(box.to_list(), width, height) for box in frame.follow.hidden(frame.arrived))
    return {
        "width": width,
        "height": height,
        "faces": [face.to_dict() for face in faces],
        "hidden": [box.to_list() for box in expected if box is not None],
    }


async def _accept(websocket: WebSocket) -> list[str]:
    """Finish the handshake; the subprotocols that the client offered."""
    offered: list[str] = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    return offered


async def _send_and_close(websocket: WebSocket, document: dict[str, Any], code: int) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        await websocket.send_text(json.dumps(document))
    await _close(websocket, code, document["message"])


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.application_state is WebSocketState.DISCONNECTED:
        return
    # The client may be gone, or not read.
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
        async with asyncio.timeout(1):
            await websocket.close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
