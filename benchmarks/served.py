"""What the benchmarks of the server share: the command running beside them, its memory and files, clips for its cameras."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.models import sample_picture
from ferkit.sources.images import read_image

WIDTH, HEIGHT = 640, 360
Pixels = npt.NDArray[np.uint8]


class Served:
    """`ferkit serve` in a process of its own, as people run it. Linux, for it reads /proc."""

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self.process, self.address = process, address
        host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
        self.host, self.port = host, int(port)

    @property
    def stream(self) -> str:
        return f"ws://{self.host}:{self.port}/v1/stream"

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def memory_mb(self, name: str = "VmRSS") -> float:
        """VmRSS: what it holds now, VmHWM: the most that it ever held."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        raise ValueError(f"/proc says nothing about {name}.")

    def stop(self) -> tuple[int, str]:
        """Ask it to stop; its exit code and what it wrote to standard error."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "ferkit", "serve", "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - for mypy; it is a pipe
        yield Served(process, json.loads(process.stdout.readline())["address"])
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


def camera_frames(count: int = 60) -> list[Pixels]:
    """One person, slowly moving, smiling: RGB uint8 (360, 640, 3)."""
    portrait = cv2.resize(read_image(sample_picture()), (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
    frames = []
    for step in range(count):
        frame = np.full((HEIGHT, WIDTH, 3), (52, 58, 66), np.uint8)
        left = round((WIDTH - HEIGHT) / 2 + 60 * np.sin(step / count * 2 * np.pi))
        frame[:, left : left + HEIGHT] = portrait
        frames.append(frame)
    return frames


def as_jpeg(frame: Pixels, quality: int = 80) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("OpenCV wrote no JPEG.")
    return bytes(data)
