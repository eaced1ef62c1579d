"""Does `ferkit serve` hold its memory and its descriptors flat?

    python stress/soak.py --minutes 20

Clients of all kinds, good and bad, come and go for so long; every five seconds it is noted what the server holds. The
first quarter is for caches and arenas to fill. It passes where, over the rest,

- a straight line through the memory rises by less than 15 MB in all;
- the last quarter's median is less than 15 MB above the second quarter's;
- no more descriptors and no more threads are open after the last client has left than after the first ones had;
- the server answers a picture afterwards, ends with 0 when it is told to, and wrote no traceback.

Linux, for it reads /proc.
"""

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import websockets

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("benchmarks", "tests/helpers")]
from served import Served, as_jpeg, camera_frames, serving
from web import claims

# Slow clients are cut off soon, but not those of a busy machine.
_OPTIONS = ("--limit", "rate=0", "--limit", "streams=8", "--limit", "send_s=5", "--limit", "upload_s=10")
_EVERY_S = 5.0
_MOST_GROWTH_MB = 15.0
_PATIENCE_S = 30.0
_UPGRADE = (
    "GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Client = Callable[[Served, httpx.AsyncClient], Awaitable[str]]
CLIENTS: list[tuple[Client, float]] = []  # and how many seconds each rests between two visits


def client(rests_s: float) -> Callable[[Client], Client]:
    def register(visit: Client) -> Client:
        CLIENTS.append((visit, rests_s))
        return visit

    return register


_FRAMES = [as_jpeg(frame) for frame in camera_frames(20)]
_LARGE = as_jpeg(np.tile(camera_frames(1)[0], (6, 6, 1)))  # 8 megapixels, 36 faces
_BOMB = claims(60_000, 60_000)


@client(0.1)
async def good_picture(server: Served, http: httpx.AsyncClient) -> str:
    return str((await http.post("v1/predict", files={"picture": _FRAMES[0]})).status_code)


@client(0.2)
async def json_pictures(server: Served, http: httpx.AsyncClient) -> str:
    texts = [base64.b64encode(frame).decode() for frame in _FRAMES[:2]]
    return str((await http.post("v1/predict", json={"pictures": texts})).status_code)


@client(0.2)
async def bad_bodies(server: Served, http: httpx.AsyncClient) -> str:
    bodies: list[tuple[bytes, str]] = [
        (b"no picture", "image/jpeg"),
        (_BOMB, "image/png"),
        (_FRAMES[0][: len(_FRAMES[0]) // 2], "image/jpeg"),
        (b'{"pictures": ["', "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"", "text/plain"),
    ]
    told = [(await http.post("v1/predict", content=body, headers={"Content-Type": kind})) for body, kind in bodies]
    return " ".join(str(one.status_code) for one in told)


@client(15)
async def large_picture(server: Served, http: httpx.AsyncClient) -> str:
    return str((await http.post("v1/predict", files={"picture": _LARGE})).status_code)


@client(20)
async def why(server: Served, http: httpx.AsyncClient) -> str:
    return str((await http.post("v1/explain", params={"face": 1}, files={"picture": _FRAMES[0]})).status_code)


@client(1)
async def stream(server: Served, http: httpx.AsyncClient) -> str:
    """Opened, twenty frames, closed as one should."""
    async with websockets.connect(server.stream, proxy=None) as opened:
        await opened.recv()
        for frame in _FRAMES:
            await opened.send(frame)
            await opened.recv()
            await asyncio.sleep(0.05)
    return "closed"


@client(0.5)
async def dropped_stream(server: Served, http: httpx.AsyncClient) -> str:
    """Opened, three frames, and gone without a word."""
    opened = await websockets.connect(server.stream, proxy=None)
    await opened.recv()
    for frame in _FRAMES[:3]:
        await opened.send(frame)
    opened.transport.abort()
    return "dropped"


@client(20)
async def leaves(server: Served, http: httpx.AsyncClient) -> str:
    """100 that leave in the middle of a frame."""
    for _ in range(100):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(_UPGRADE.format(host=server.host, port=server.port).encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\xfe\x27\x10" + bytes(4) + b"x" * 5000)  # half of 10,000 bytes
        await writer.drain()
        writer.transport.abort()
    return "left"


@client(1)
async def slow_body(server: Served, http: httpx.AsyncClient) -> str:
    """A letter a second until the server has enough."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: image/jpeg\r\n"
    writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode())
    answer = asyncio.create_task(reader.readline())
    while not answer.done():
        writer.write(b"x")
        await asyncio.wait([answer], timeout=1)
    writer.close()
    return answer.result().split()[1].decode()


@client(5)
async def scrape(server: Served, http: httpx.AsyncClient) -> str:
    return str((await http.get("metrics")).status_code)


@client(2)
async def visitor(server: Served, http: httpx.AsyncClient) -> str:
    """The page and what is nowhere, on a connection of their own."""
    async with httpx.AsyncClient(base_url=server.address) as own:
        answers = [await own.get(path) for path in ("", "healthz", "v1/model", "nowhere")]
    return " ".join(str(one.status_code) for one in answers)


@dataclass(frozen=True)
class Sample:
    """What the server held, so many seconds after the load began."""

    seconds: float
    memory_mb: float
    files: int


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


def threads(server: Served) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/task"))  # noqa: PTH208


async def load(server: Served, seconds: float) -> tuple[list[Sample], dict[str, Counter[str]]]:
    """All clients at once, each in turn visiting and resting."""
    until, outcomes = time.monotonic() + seconds, {visit.__name__: Counter[str]() for visit, _ in CLIENTS}
    samples, began = list[Sample](), time.monotonic()

    async def come_and_go(visit: Client, rests_s: float, http: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            try:
                outcome = await visit(server, http)
            except (OSError, httpx.HTTPError, websockets.WebSocketException, IndexError) as problem:
                outcome = type(problem).__name__
                if visit is good_picture:
                    print(f"      {time.monotonic() - began:.0f} s: {problem!r}")
            outcomes[visit.__name__][outcome] += 1
            await asyncio.sleep(min(rests_s, max(until - time.monotonic(), 0)))

    async def sample() -> None:
        while time.monotonic() < until:
            samples.append(Sample(time.monotonic() - began, server.memory_mb(), server.open_files()))
            await asyncio.sleep(_EVERY_S)

    async with httpx.AsyncClient(base_url=server.address, timeout=120) as http:
        await asyncio.gather(sample(), *(come_and_go(visit, rests_s, http) for visit, rests_s in CLIENTS))
    return samples, outcomes


def growth_mb(samples: Sequence[Sample]) -> tuple[float, float]:
    """By a line through the last three quarters; by the medians of the second and the last quarter."""
    quarter = len(samples) // 4
    seconds, memory = np.array([(one.seconds, one.memory_mb) for one in samples[quarter:]]).T
    by_line = np.polyfit(seconds, memory, 1)[0] * (seconds[-1] - seconds[0])
    return float(by_line), float(np.median(memory[-quarter:]) - np.median(memory[:quarter]))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args(words)
    verdicts = []

    def say(what: str, measured: str, good: bool) -> None:
        verdicts.append(good)
        print(f"{'ok   ' if good else 'AMISS'} {what}: {measured}", flush=True)

    with serving(*_OPTIONS) as server:
        asyncio.run(load(server, 15))  # of each kind one, so that all that is made once is there
        asyncio.run(is_well(server))
        time.sleep(5)  # until the first clients have left
        files = server.open_files()
        before = threads(server)
        samples, outcomes = asyncio.run(load(server, options.minutes * 60))
        for name, counted in outcomes.items():
            print(f"      {name}: {dict(counted)}")
        visits = sum(counted.total() for counted in outcomes.values())
        good = outcomes["good_picture"]
        say("pictures", f"{visits:,} visits in {options.minutes:g} minutes; of {good.total():,} good pictures "
            f"{good['200']:,} answered", good["200"] == good.total())  # fmt: skip
        by_line, by_medians = growth_mb(samples)
        highest = max(one.memory_mb for one in samples)
        say("memory, line", f"{by_line:+.1f} MB over the last three quarters; at most {highest:.0f} MB",
            by_line < _MOST_GROWTH_MB)  # fmt: skip
        say(
            "memory, medians", f"{by_medians:+.1f} MB from the second to the last quarter", by_medians < _MOST_GROWTH_MB
        )
        after = settled(server, files)
        say(
            "descriptors", f"{files} before, {max(one.files for one in samples)} at most, {after} after", after <= files
        )
        say("threads", f"{before} before, {threads(server)} after", threads(server) <= before + 1)
        well = asyncio.run(is_well(server))
        try:
            code, errors = server.stop()
        except subprocess.TimeoutExpired:
            server.process.kill()
            code, errors = -1, "it did not end within half a minute"
        traceback = "Traceback" in errors
        say("afterwards", f"{'answers' if well else 'answers no more'}, ends with {code}, "
            f"{'a' if traceback else 'no'} traceback", well and not code and not traceback)  # fmt: skip
    return int(not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
