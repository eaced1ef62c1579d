"""Does a batch job hold its memory flat, in the driver and in the workers, over very many pictures?

    python benchmarks/batch_memory.py [--pictures 200000] [--form tar] [--workers 2] [--engine local]

Draws faces of 48x48, packs them into shards, and runs `ferkit batch` on them as a user would, without a detector: nothing
else makes so many rows in so little time. Prints the resident memory of the driver and of its largest worker while the
job goes on, and ends with an error where that grew by more than a fifth over the second half.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

_PER_SHARD = 10_000
_DRAWN = 200  # different pictures
_EVERY_S = 0.5
_ALLOWED = 1.2


@dataclass(frozen=True)
class Sample:
    """Resident memory in bytes at a moment, and how many parts were there."""

    seconds: float
    parts: int
    driver: int
    workers: int
    largest_worker: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--form", choices=("tar", "parquet", "folder"), default="tar")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", default="local")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source = make_pictures(Path(place) / "pictures", arguments.pictures, arguments.form)
        out = Path(place) / "out"
        command = [sys.executable, "-m", "ferkit", "batch", source, str(out), "--detector", "none"]
        command += ["--workers", str(arguments.workers), "--engine", arguments.engine]
        started = time.perf_counter()
        samples = watch(command, out)
        seconds = time.perf_counter() - started
        rows = sum(pq.read_metadata(path).num_rows for path in out.glob("part-*.parquet"))
    if rows != arguments.pictures:
        raise SystemExit(f"{rows} rows came out of {arguments.pictures} pictures.")
    show(samples)
    print(f"{rows:,} rows in {seconds:.0f} s, {rows / seconds:.0f} pictures per second, all included")
    check(samples)


def make_pictures(folder: Path, count: int, form: str) -> str:
    """Shards of faces, `_PER_SHARD` each, or files; returns what to give as SRC."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    drawn = [_face(rng) for _ in range(_DRAWN)]
    for first in range(0, count, _PER_SHARD):
        numbers = range(first, min(first + _PER_SHARD, count))
        faces = {f"{number:09}.jpg": drawn[number % _DRAWN] for number in numbers}
        shard = folder / f"faces-{first // _PER_SHARD:05}"
        if form == "tar":
            with tarfile.open(shard.with_suffix(".tar"), "w") as archive:
                for name, data in faces.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        elif form == "parquet":
            table = pa.table({"key": list(faces), "image": list(faces.values())})
            pq.write_table(table, shard.with_suffix(".parquet"), row_group_size=1000)
        else:
            shard.mkdir()
            for name, data in faces.items():
                (shard / name).write_bytes(data)
    return str(folder) if form == "folder" else f"{folder}/*.{form}"


def _face(rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 256, (6, 6), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def watch(command: list[str], out: Path) -> list[Sample]:
    """Run the command and look at it every half second."""
    samples = []
    started = time.perf_counter()
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            time.sleep(_EVERY_S)
            driver, below = _memory(process.pid), [_memory(child) for child in _below(process.pid)]
            parts = len(list(out.glob("part-*.parquet")))
            if driver and below:
                passed = time.perf_counter() - started
                samples.append(Sample(passed, parts, driver, sum(below), max(below)))
    if process.returncode:
        raise SystemExit(f"ferkit batch ended with {process.returncode}.")
    return samples


def _below(process: int) -> list[int]:
    """The processes that it started, and those that they started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
    found, waiting = [], [process]
    while waiting:
        here = waiting.pop()
        children = [child for child, parent in parents.items() if parent == here]
        found += children
        waiting += children
    return found


def _memory(process: int) -> int:
    """Resident bytes of a process; 0 of one that ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def show(samples: list[Sample]) -> None:
    print(f"{'seconds':>8}  {'parts':>6}  {'driver':>8}  {'largest worker':>14}  {'all workers':>11}")
    for one in samples[:: max(1, len(samples) // 12)]:
        print(
            f"{one.seconds:>8.0f}  {one.parts:>6,}  {one.driver / 1e6:>5.0f} MB  {one.largest_worker / 1e6:>11.0f} MB"
            f"  {one.workers / 1e6:>8.0f} MB"
        )


def check(samples: list[Sample]) -> None:
    """Compare the middle of the job with its end; before that, workers load their models."""
    busy = [one for one in samples if one.parts]
    if len(busy) < 8:
        raise SystemExit("Too short to say whether memory stays flat. Take more --pictures.")
    middle, end = busy[len(busy) // 2], busy[-1]
    for what, before, after in (
        ("driver", middle.driver, end.driver),
        ("largest worker", middle.largest_worker, max(one.largest_worker for one in busy[len(busy) // 2 :])),
    ):
        print(f"{what}: {before / 1e6:.0f} MB half-way, {after / 1e6:.0f} MB at most later")
        if after > _ALLOWED * before:
            raise SystemExit(f"The memory of the {what} grew.")


if __name__ == "__main__":
    main()
