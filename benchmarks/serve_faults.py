"""What clients may do to `ferkit serve`, done to it: it must stay up, say what is wrong, and leak nothing.

    python benchmarks/serve_faults.py

Prints a line for each fault and for what was open and held before and after; exit code 1 where something is amiss. What
happens in the page (a camera unplugged, a server gone) is in tests/serve/test_web_page.py.
"""

import asyncio
import json
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Coroutine

import httpx
import websockets
from websockets.exceptions import ConnectionClosed

from served import Served, as_jpeg, camera_frames, serving

STREAMS = 8
OPTIONS = ("--limit", "rate=0", "--limit", f"streams={STREAMS}", "--limit", "send_s=1", "--limit", "upload_s=2")
# More than the allocator keeps for itself between two rounds of the same faults.
MOST_GROWTH_MB = 15.0
_ROUNDS = 2
_PATIENCE_S = 30.0

Outcome = str
_UPGRADE = (
    "GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000)))


async def leaves_in_mid_frame(server: Served) -> Outcome:
    """100 clients that leave in the middle of a frame."""
    for _ in range(100):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(_UPGRADE.format(host=server.host, port=server.port).encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\xfe\x27\x10" + bytes(4) + b"x" * 5000)  # half of 10,000 bytes
        await writer.drain()
        writer.transport.abort()
    return "left"


async def garbage_frames(server: Served) -> Outcome:
    """Frames that are no pictures, until the server has enough."""
    told = 0
    async with websockets.connect(server.stream, proxy=None) as stream:
        await stream.recv()
        try:
            while True:
                await stream.send(b"garbage")
                told += json.loads(await stream.recv())["type"] == "error"
        except ConnectionClosed as closed:
            return f"{told} told, then closed with {closed.rcvd.code if closed.rcvd else None}"


async def picture_bombs(server: Served) -> Outcome:
    """50 pictures that claim 3.6 gigapixels."""
    data = bomb()
    async with httpx.AsyncClient(base_url=server.address) as client:
        answers = [await client.post("v1/predict", files={"picture": data}) for _ in range(50)]
    return dict(Counter(answer.status_code for answer in answers)).__repr__()


async def crowd(server: Served) -> Outcome:
    """200 connections at once, all of which want a stream."""
    frame = as_jpeg(camera_frames(1)[0])

    async def one() -> str:
        async with websockets.connect(server.stream, proxy=None, open_timeout=60) as stream:
            first = json.loads(await stream.recv())
            if first["type"] != "hello":
                return str(first["code"])
            await stream.send(frame)
            answer = json.loads(await stream.recv())
            await asyncio.sleep(1)  # hold the place while the others come
            return str(answer["type"])

    return repr(dict(Counter(await asyncio.gather(*(one() for _ in range(200))))))


async def slow_readers(server: Served) -> Outcome:
    """Clients that send frames and read no answer."""
    frame = as_jpeg(camera_frames(1)[0])

    async def one() -> None:
        stream = await websockets.connect(server.stream, proxy=None)
        raw: socket.socket = stream.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.transport.pause_reading()
        for _ in range(200):
            await stream.send(frame)
        await asyncio.sleep(2)
        stream.transport.abort()

    await asyncio.gather(*(one() for _ in range(STREAMS)))
    return "read nothing"


async def slow_senders(server: Served) -> Outcome:
    """20 bodies that never end."""

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(
            f"POST /v1/predict HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: image/jpeg\r\n"
            "Content-Length: 1000000\r\n\r\nxyz".encode()
        )
        answer = await asyncio.wait_for(reader.readline(), _PATIENCE_S)
        writer.close()
        return answer.split()[1]

    return repr(dict(Counter([int(status) for status in await asyncio.gather(*(one() for _ in range(20)))])))


FAULTS: list[tuple[Callable[[Served], Coroutine[None, None, Outcome]], str]] = [
    (leaves_in_mid_frame, "left"),
    (garbage_frames, "30 told, then closed with 1003"),
    (picture_bombs, "{413: 50}"),
    (crowd, f"{{'faces': {STREAMS}, 'too_many_streams': {200 - STREAMS}}}"),
    (slow_readers, "read nothing"),
    (slow_senders, "{408: 20}"),
]


async def is_well(server: Served) -> bool:
    async with httpx.AsyncClient(base_url=server.address, timeout=_PATIENCE_S) as client:
        picture = {"picture": as_jpeg(camera_frames(1)[0])}
        return [(await client.post("v1/predict", files=picture)).status_code for _ in range(3)] == [200] * 3


def settled(server: Served, files: int) -> int:
    """Open files, once the last connections are gone."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.open_files() > files and time.monotonic() < deadline:
        time.sleep(0.1)
    return server.open_files()


async def stops_while_streaming(server: Served) -> tuple[Outcome, int, str]:
    """SIGTERM while all streams run."""
    frame = as_jpeg(camera_frames(1)[0])
    running = asyncio.Event()

    async def one() -> int | None:
        async with websockets.connect(server.stream, proxy=None) as stream:
            try:
                await stream.recv()
                while True:
                    await stream.send(frame)
                    await stream.recv()
                    running.set()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None

    streams = [asyncio.create_task(one()) for _ in range(STREAMS)]
    await running.wait()
    code, errors = await asyncio.to_thread(server.stop)
    return repr(dict(Counter(await asyncio.gather(*streams)))), code, errors


def main() -> int:
    problems = 0

    def say(what: str, outcome: str, good: bool) -> None:
        nonlocal problems
        problems += not good
        print(f"{'ok   ' if good else 'AMISS'} {what}: {outcome}", flush=True)

    with serving(*OPTIONS) as server:
        asyncio.run(is_well(server))
        files, held = server.open_files(), list[float]()
        for _ in range(_ROUNDS):
            for fault, expected in FAULTS:
                outcome = asyncio.run(fault(server))
                well = asyncio.run(is_well(server))
                say((fault.__doc__ or "").rstrip("."), f"{outcome}{'' if well else '; then it answered no more'}",
                    outcome == expected and well)  # fmt: skip
            held.append(server.memory_mb())
        after = settled(server, files)
        say("Open files", f"{files} before, {after} after", after <= files)
        # The first round fills caches and arenas; what the second adds would be a leak.
        growth = held[-1] - held[-2]
        say("Memory", f"{held[-2]:.0f} MB after one round, {held[-1]:.0f} MB after two", growth < MOST_GROWTH_MB)
        outcome, code, errors = asyncio.run(stops_while_streaming(server))
        say("SIGTERM while streaming", f"closed with {outcome}, exit code {code}",
            outcome == f"{{1001: {STREAMS}}}" and code == 0)  # fmt: skip
        say("Standard error", errors.strip().splitlines()[-1] if "Traceback" in errors else "no traceback",
            "Traceback" not in errors)  # fmt: skip
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
