"""How many requests a second `ferkit serve` answers, how long each takes, how old a live answer is, what memory it holds.

Clients run beside the server on the same cores and send the sample portrait, each the next one when its answer is there.
The stream sends frames of 640x360 as a camera gives them, 30 a second, encoded when they are sent; what is timed is from
the moment when the frame is there to its answer. With --browser a page does the same with Chromium's fake camera.

    python benchmarks/serve.py                        # prints
    python benchmarks/serve.py --browser --write      # and writes benchmarks/SERVE.md
    python benchmarks/serve.py --seconds 2            # a quick try
"""

import asyncio
import json
import os
import platform
import re
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import websockets

from _shared import HERE, options_of, publish
from ferkit.models import sample_picture
from served import Served, as_jpeg, camera_frames, serving

CLIENTS = (1, 8, 32)
FPS = 30
TARGET_MS = 100
_ON_THE_WAY = 2


@dataclass
class Answers:
    """Seconds that each answer took, how long it all took, and what got no good answer."""

    seconds: list[float]
    span: float
    lost: int

    def ms(self, percent: int) -> float:
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


async def ask(server: Served, clients: int, seconds: float) -> Answers:
    """So many clients, each with one connection that it keeps."""
    body = sample_picture().read_bytes()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    answers, lost = list[float](), 0
    start = time.perf_counter()

    async def one() -> None:
        nonlocal lost
        reader, writer = await asyncio.open_connection(server.host, server.port)
        while time.perf_counter() - start < seconds:
            begun = time.perf_counter()
            writer.write(head + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
            document = json.loads(await reader.readexactly(int(length[1]))) if length else None
            if answer.startswith("HTTP/1.1 200") and document and document[0]["faces"]:
                answers.append(time.perf_counter() - begun)
            else:
                lost += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return Answers(answers, time.perf_counter() - start, lost)


async def watch(server: Served, seconds: float) -> tuple[Answers, int]:
    """One stream at 30 frames a second; also how many frames the server dropped."""
    frames = camera_frames()
    captured: dict[int, float] = {}
    took: list[float] = []
    dropped = answered = sent = 0
    async with websockets.connect(server.stream, proxy=None) as stream:
        await stream.recv()

        async def receive() -> None:
            nonlocal answered, dropped
            async for text in stream:
                answer = json.loads(text)
                took.append(time.perf_counter() - captured.pop(answer["frame"]))
                answered, dropped = answered + bool(answer.get("faces")), answer["dropped"]

        receiving = asyncio.create_task(receive())
        start = time.perf_counter()
        shot = 0
        while time.perf_counter() - start < seconds:
            shot += 1
            await asyncio.sleep(max(0.0, start + shot / FPS - time.perf_counter()))
            if len(captured) >= _ON_THE_WAY:  # as docs/serve.md asks of clients
                continue
            now = time.perf_counter()
            data = as_jpeg(frames[shot % len(frames)])
            sent += 1
            captured[sent] = now
            await stream.send(data)
        span = time.perf_counter() - start
        while captured:
            await asyncio.sleep(0.01)
        receiving.cancel()
    return Answers(took, span, sent - answered - dropped), dropped


def browse(server: Served, seconds: float) -> tuple[float, float] | None:
    """Answers per second, and ms from a camera's frame to its answer, as the page itself shows them."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        return None
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        clip = Path(folder) / "camera.mjpeg"
        clip.write_bytes(b"".join(as_jpeg(frame, 90) for frame in camera_frames()))
        flags = ("no-sandbox", "use-fake-device-for-media-stream", f"use-file-for-fake-video-capture={clip}")
        browser = driver.chromium.launch(executable_path=program, args=[f"--{flag}" for flag in flags])
        page = browser.new_context(permissions=["camera"], viewport={"width": 1024, "height": 640}).new_page()
        page.goto(server.address)
        page.click("#start-button")
        page.wait_for_selector(".person[data-track='1']", timeout=60_000)
        shown = []
        for _ in range(max(1, round(2 * seconds))):
            page.wait_for_timeout(500)
            if found := re.search(r"(\d+) fps \S+ (\d+) ms", page.inner_text("#status")):
                shown.append((float(found[1]), float(found[2])))
        browser.close()
    rates, delays = zip(*shown, strict=True)
    return statistics.median(rates), statistics.median(delays)


def report(seconds: float, browser: bool, options: list[str]) -> str:
    lines = ["| clients | requests/s | p50 ms | p95 ms | p99 ms | responses | lost |", "|---|---|---|---|---|---|---|"]
    with serving("--limit", "rate=0", *options) as server:
        asyncio.run(ask(server, 2, min(seconds, 2)))  # warm
        before, files = server.memory_mb(), server.open_files()
        for clients in CLIENTS:
            found = asyncio.run(ask(server, clients, seconds))
            rate = len(found.seconds) / found.span
            spent = " | ".join(f"{found.ms(percent):.0f}" for percent in (50, 95, 99))
            lines.append(f"| {clients} | {rate:.1f} | {spent} | {len(found.seconds):,} | {found.lost} |")
            print(lines[-1], flush=True)
        stream, dropped = asyncio.run(watch(server, seconds))
        page = browse(server, seconds) if browser else None
        after, most = server.memory_mb(), server.memory_mb("VmHWM")
        lines += [
            "",
            "Live stream, 640x360, one face, camera with 30 frames per second:",
            "",
            "| client | responses/s | p50 ms | p95 ms | p99 ms | dropped | lost |",
            "|---|---|---|---|---|---|---|",
            f"| Python | {len(stream.seconds) / stream.span:.1f} | {stream.ms(50):.0f} | {stream.ms(95):.0f} | "
            f"{stream.ms(99):.0f} | {dropped} | {stream.lost} |",
        ]
        if page is not None:
            lines.append(f"| the page in Chromium | {page[0]:.1f} | {page[1]:.0f} | | | | |")
        met = "met" if stream.ms(50) < TARGET_MS else "missed"
        lines += [
            "",
            f"Target: a median of less than {TARGET_MS} ms from camera to response: {met}.",
            "",
            f"Server memory: {before:.0f} MB after warm-up, {after:.0f} MB at the end, {most:.0f} MB maximum. "
            f"Open files: {files} before, {server.open_files()} after.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--browser", action="store_true", help="also measure the page in Chromium")
    parser.add_argument("--write", action="store_true", help="write benchmarks/SERVE.md")
    parser.add_argument("--detector", default="auto")
    arguments = parser.parse_args()
    measured = report(arguments.seconds, arguments.browser, ["--detector", arguments.detector])
    cores = len(os.sched_getaffinity(0))
    words = " ".join(["python benchmarks/serve.py", *(["--browser"] if arguments.browser else [])])
    text = f"""# Speed of the server

`{words}`, {arguments.seconds:g} s each, on {cores} core{"s" * (cores > 1)} ({platform.machine()}, Python {platform.python_version()}),
with clients and server on the same machine. All images are the sample portrait, 512x512. *Lost* counts the requests and frames
without the correct response.

{measured}
"""
    publish(text, HERE / "SERVE.md" if arguments.write else None)


if __name__ == "__main__":
    main()
