"""The server in this process, asked without a network: one event loop, work done where it is asked for."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import mock

from ferkit.serve.app import create_app
from ferkit.serve.server import Workers
from ferkit.serve.settings import Limits, Settings
from fuzz.judge import Choices
from web import fast_recognizer

T = TypeVar("T")
Message = dict[str, Any]

LIMITS = Limits(body_bytes=6000, pixels=1 << 20, pictures=4, rate=0, frame_bytes=6000, frame_pixels=1 << 20,
                upload_s=5, idle_s=5, send_s=5, bad_frames=3)  # fmt: skip
# A server for this machine alone, and one that the world may ask, which knows no names and asks for a key.
SETTINGS = {
    "own": Settings(limits=LIMITS),
    "open": Settings(host="0.0.0.0", allow_origins=("*",), limits=LIMITS),  # noqa: S104 - nothing is listened on
    "locked": Settings(host="0.0.0.0", api_key="key", allow_hosts=("a.example",), limits=LIMITS),  # noqa: S104
}


class _AtOnce(Workers):
    """Work done in the event loop: the fuzzer sees what it does, and no thread is in between."""

    async def _run(self, pool: Any, client: str, work: Callable[[], T]) -> T:
        return work()


@functools.cache
def application(name: str) -> Any:
    with mock.patch("ferkit.serve.app.Workers", _AtOnce):
        return create_app(fast_recognizer(), SETTINGS[name])


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def headers_of(choices: Choices, most: int, longest: int, server: str) -> list[tuple[bytes, bytes]]:
    """Fewer than `most` headers that are chosen, and a host that this server knows where none is."""
    found = []
    for _ in range(choices.number(most)):
        name, _, value = choices.bytes(longest).partition(b"\0")
        found.append((name.lower(), value))
    if not any(name == b"host" for name, _ in found):
        found.append((b"host", b"a.example" if server == "locked" else b"127.0.0.1"))
    return found


def ask(name: str, scope: Message, messages: list[Message]) -> list[Message]:
    """What a server answers to a connection that sends these messages and then leaves.

    scope: what differs from one connection to another.
    """
    path, _, query = str(scope["path"]).partition("?")
    scope = {"asgi": {"version": "3.0"}, "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 8000), **scope, "path": path, "raw_path": path.encode(),
             "query_string": query.encode()}  # fmt: skip
    sent: list[Message] = []
    waiting = iter(messages)
    gone = {"type": "http.disconnect"} if scope["type"] == "http" else {"type": "websocket.disconnect", "code": 1005}

    async def receive() -> Message:
        # Others get their turn: the answer to one message may come before the next does.
        for _ in range(3):
            await asyncio.sleep(0)
        return next(waiting, gone)

    async def send(message: Message) -> None:
        sent.append(message)

    _loop().run_until_complete(asyncio.wait_for(application(name)(scope, receive, send), 20))
    return sent
