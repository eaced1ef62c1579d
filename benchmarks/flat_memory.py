"""Does `ferkit predict` hold its memory flat, and print before the end, over a very large folder?

    python benchmarks/flat_memory.py [--files 1000 10000 100000]

Makes folders of small pictures (hard links to a few drawn ones, so that they cost no disk), runs the command on each
as a user would, and prints peak memory, files per second, and after how many seconds the first row came out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

_PER_FOLDER = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--detector", default="none", help="none looks at every file as a face of its own")
    arguments = parser.parse_args()
    print(f"{'files':>8}  {'peak memory':>11}  {'files/s':>8}  {'first row after':>15}")
    for count in arguments.files:
        with tempfile.TemporaryDirectory() as place:
            make_pictures(Path(place), count)
            peak, seconds, first, rows = predict(place, arguments.detector)
        if rows < count:
            raise SystemExit(f"{rows} rows came out of {count} files.")
        print(f"{count:>8,}  {peak / 1e6:>8.0f} MB  {count / seconds:>8.0f}  {first:>13.2f} s", flush=True)


def make_pictures(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(20):
        path = folder / f".{number}.bin"
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        PIL.Image.fromarray(pixels).save(path, format="JPEG")
        drawn.append(path)
    for number in range(count):
        place = folder / f"{number // _PER_FOLDER:04}"
        if number % _PER_FOLDER == 0:
            place.mkdir()
        os.link(drawn[number % len(drawn)], place / f"{number:06}.jpg")


def predict(folder: str, detector: str) -> tuple[float, float, float, int]:
    """Peak memory in bytes, seconds, seconds until the first row, and rows of the printed table."""
    command = [sys.executable, "-m", "ferkit", "predict", folder, "--detector", detector, "--top", "1"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output = process.stdout or ()
        rows = iter(output)
        next(rows, None)  # the heading
        next(rows, None)
        first = time.perf_counter() - started
        count = 1 + sum(1 for _ in rows)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ferkit predict ended with {process.returncode}.")
    return usage.ru_maxrss * 1024, time.perf_counter() - started, first, count


if __name__ == "__main__":
    main()
