"""What can a stranger's file or client hold: how long, how much memory, and does `/healthz` answer meanwhile?

    python stress/attacks.py                                # this code
    git worktree add /tmp/before 78b69db
    python stress/attacks.py --source /tmp/before/src       # another one
    python stress/attacks.py --kind scans json              # some kinds only

Each attack on the server has a server of its own, on loopback, with 256 descriptors; it gives up after half a minute. A
row passes where `/healthz` answered within a second throughout, a good picture was answered afterwards, and SIGTERM ended
the server within ten seconds. Attacks on commands pass where they end within ten seconds (a batch: where its picture
costs a row) below 1 GB. Linux, for it reads /proc.
"""

import argparse
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import PIL.Image

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("benchmarks", "tests/helpers")]
from pictures import encoded, floods, many_scans, picture
from served import Served, serving

_GIVE_UP_S = 30.0
_DESCRIPTORS = 256
_GOOD = encoded(picture(64, 64), "JPEG")
_HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
_UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def _post(served: Served, body: bytes, kind: str = "image/jpeg", times: int = 1, route: str = "v1/predict") -> str:
    """Send a body so many times at once; the statuses, `-` where none came in time."""
    statuses: list[str] = []

    def one() -> None:
        try:
            answer = httpx.post(
                served.address + route, content=body, headers={"content-type": kind}, timeout=_GIVE_UP_S
            )
            statuses.append(str(answer.status_code))
        except httpx.HTTPError:
            statuses.append("-")

    threads = [threading.Thread(target=one) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return " ".join(sorted(statuses))


def scans(served: Served) -> str:
    return _post(served, many_scans(1920, 1080, 10_000), times=4)


def markers(served: Served) -> str:
    kinds = floods(19_000_000)
    return " ".join(
        _post(served, kinds[name])
        for name in ("jpeg comments", "png texts", "png profiles", "gif one comment", "tiff tags")
    )


def items(served: Served) -> str:
    return _post(served, floods(19_000_000)["avif items"], times=2)


def flat_pixels(served: Served) -> str:
    flat = io.BytesIO()
    PIL.Image.new("L", (7000, 7000)).save(flat, "PNG")
    form = httpx.Request("POST", served.address, files=[("a", flat.getvalue())] * 32)
    return _post(served, form.read(), form.headers["content-type"], times=2)


def json_lists(served: Served) -> str:
    return _post(served, b'{"pictures":[' + b"[]," * 6_600_000 + b"0]}", "application/json", times=6)


def json_blanks(served: Served) -> str:
    return _post(served, json.dumps({"pictures": ["ab " * 6_600_000]}).encode(), "application/json", times=6)


def half_bodies(served: Served) -> str:
    head = _HEAD + b"Content-Length: 1000\r\n\r\nx"
    with ExitStack() as opened:
        for _ in range(100):
            raw = opened.enter_context(socket.create_connection((served.host, served.port), timeout=5))
            raw.sendall(head)
            time.sleep(0.02)
        return " ".join(_post(served, _GOOD) for _ in range(3))


def unread_answers(served: Served) -> str:
    with ExitStack() as opened:
        for _ in range(300):
            raw = opened.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            raw.settimeout(2)
            with suppress(OSError):
                raw.connect((served.host, served.port))
                raw.setblocking(False)
                for _ in range(100):
                    raw.send(b"GET /static/style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
        time.sleep(10)
        return f"{_post(served, _GOOD)}, {served.open_files()} descriptors"


def idle_connections(served: Served) -> str:
    with ExitStack() as opened:
        for _ in range(400):
            with suppress(OSError):
                opened.enter_context(socket.create_connection((served.host, served.port), timeout=2))
        return f"{_post(served, _GOOD)}, {served.open_files()} descriptors"


def _flood(served: Served, head: bytes, unit: bytes) -> str:
    """Eight connections send a head, read what comes, and then send small units until they are cut off."""

    def one() -> None:
        with suppress(OSError), socket.create_connection((served.host, served.port), timeout=10) as raw:
            raw.sendall(head)
            if b"Upgrade" in head:
                raw.recv(4096)
            end = time.monotonic() + 12
            while time.monotonic() < end:
                raw.sendall(unit * (1 << 18 >> 3))
            still.append(raw)

    still: list[socket.socket] = []
    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{8 - len(still)} of 8 cut off, {_post(served, _GOOD)}"


def tiny_chunks(served: Served) -> str:
    return _flood(served, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")


def stream_pings(served: Served) -> str:
    return _flood(served, _UPGRADE, b"\x89\x81\0\0\0\0x")


def stream_of_nothing(served: Served) -> str:
    return _flood(served, _UPGRADE, b"\x82\x80\0\0\0\0")


def no_http(served: Served) -> str:
    for _ in range(500):
        with suppress(OSError), socket.create_connection((served.host, served.port), timeout=5) as raw:
            raw.sendall(b"no http\r\n\r\n")
            raw.recv(4096)
    return "sent"


SERVER: dict[str, Callable[[Served], str]] = {
    one.__name__.replace("_", " "): one
    for one in (
        *(scans, markers, items, flat_pixels, json_lists, json_blanks, half_bodies, unread_answers, idle_connections),
        *(tiny_chunks, stream_pings, stream_of_nothing, no_http),
    )
}


_WATCH = """
import http.client, select, sys, time
slowest = 0.0
while not select.select([sys.stdin], [], [], 0.2)[0]:
    begun = time.monotonic()
    try:
        connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=30)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        connection.close()
    except (OSError, http.client.HTTPException):
        pass
    slowest = max(slowest, time.monotonic() - begun)
print(slowest)
"""


def attack_server(attack: Callable[[Served], str]) -> tuple[bool, list[str]]:
    """What it held: seconds, MB, the worst second of `/healthz`, how it stopped, lines of its log."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with serving() as served:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        _post(served, _GOOD)
        before = served.memory_mb("VmHWM")

        # A process of its own: the attack keeps this one busy.
        watcher = subprocess.Popen(
            [sys.executable, "-c", _WATCH, served.host, str(served.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        begun = time.monotonic()
        said = attack(served)
        held = time.monotonic() - begun
        slowest = float(watcher.communicate()[0])
        memory = served.memory_mb("VmHWM") - before
        good = _post(served, _GOOD)
        begun = time.monotonic()
        try:
            code, log = served.stop()
            ended = f"{code} after {time.monotonic() - begun:.1f} s"
        except subprocess.TimeoutExpired:
            served.process.kill()
            code, log, ended = -1, served.process.communicate()[1], "never"
    passed = slowest < 1 and good == "200" and code == 0 and time.monotonic() - begun < 10
    return passed, [said, f"{held:.1f}", f"{memory:.0f}", f"{slowest:.2f}", ended, str(len(log.splitlines()))]


def _slow_picture(folder: Path) -> None:
    (folder / "slow").mkdir()
    (folder / "slow" / "slow.jpg").write_bytes(many_scans(1920, 1080, 30_000))


def _packed_model(folder: Path) -> None:
    with zipfile.ZipFile(folder / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"class_name": "Sequential", "module": "keras", "config": {"layers": []}}')
        archive.writestr("metadata.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as file:
            for _ in range(2048):
                file.write(bytes(1 << 20))


def _sparse(name: str, size: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)

    return make


def _slow_video(folder: Path) -> None:
    """Three frames of MJPEG, as cameras store them."""
    (folder / "clip.mjpeg").write_bytes(many_scans(1920, 1080, 30_000) * 3)


def _playlist(folder: Path) -> None:
    (folder / "clip.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")


# How the material is made, the words of the command, a signal sent after so many seconds.
COMMANDS: dict[str, tuple[Callable[[Path], None], list[str], tuple[int, float] | None]] = {
    "predict": (_slow_picture, ["predict", "slow/slow.jpg"], None),
    "predict, Ctrl-C": (_slow_picture, ["predict", "slow/slow.jpg"], (signal.SIGINT, 5)),
    "batch": (_slow_picture, ["batch", "slow", "out"], None),
    "packed .keras": (_packed_model, ["predict", "photo.png", "--model", "m.keras"], None),
    "sparse .onnx": (_sparse("m.onnx", 4 << 30), ["predict", "photo.png", "--model", "m.onnx"], None),
    "sparse card.json": (_sparse("m/card.json", 3 << 30), ["predict", "photo.png", "--model", "m"], None),
    "video, Ctrl-C twice": (_slow_video, ["video", "clip.mjpeg"], (signal.SIGINT, 8)),
    "concat": (_playlist, ["video", "clip.mp4"], None),
}


def attack_command(
    make: Callable[[Path], None], words: list[str], told: tuple[int, float] | None
) -> tuple[bool, list[str]]:
    """On one core, where a command has no second thread. What it held, and the last line that it said."""
    with tempfile.TemporaryDirectory(prefix="ferkit-attack-") as name:
        folder = Path(name)
        picture().save(folder / "photo.png")
        make(folder)
        command = ["taskset", "-c", "0", sys.executable, "-m", "ferkit", *words]
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if told is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(told[1])
            begun = time.monotonic()
            process.send_signal(told[0])
            time.sleep(0.5)
            process.send_signal(told[0])
        peak, deadline = 0.0, time.monotonic() + _GIVE_UP_S
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, ValueError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]) / 1024)
            time.sleep(0.02)
        held = time.monotonic() - begun
        ended = "never" if process.poll() is None else str(process.returncode)
        process.kill()
        lines = (process.communicate()[1] or "").strip().splitlines() or [""]
    return ended != "never" and held < 10 and peak < 1000, [lines[-1][-90:], f"{held:.1f}", f"{peak:.0f}", ended]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="the `src` of another checkout")
    parser.add_argument("--kind", nargs="+", choices=[*SERVER, *COMMANDS], default=[*SERVER, *COMMANDS])
    options = parser.parse_args()
    if options.source:
        os.environ["PYTHONPATH"] = str(Path(options.source).resolve())
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    passed = True
    print("| attack on the server | answers | held s | MB | /healthz s | exit by SIGTERM | log lines | |")
    print("|---|---|--:|--:|--:|---|--:|---|")
    for kind in options.kind:
        if kind == next(iter(COMMANDS)):
            print("\n| attack on a command | last line | held s | MB | exit code | |\n|---|---|--:|--:|---|---|")
        good, row = attack_server(SERVER[kind]) if kind in SERVER else attack_command(*COMMANDS[kind])
        passed &= good
        print(f"| {kind} | {' | '.join(row)} | {'ok' if good else 'AMISS'} |", flush=True)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
