"""Pictures per second of batch jobs, at one and two workers, of every engine, against plain loops in the same run.

    python benchmarks/batch.py SCENES            # prints
    python benchmarks/batch.py SCENES --write    # and writes benchmarks/BATCH.md and batch.json
    python benchmarks/batch.py SCENES --pictures 90 --faces 200 --rounds 1 --listing 2000    # a quick try

SCENES is a folder of pictures; they are taken again and again under other names. The second set are small faces cut out
before, on which everything but the network and the file counts. Contenders take turns, round by round, on the same files,
so that a noisy machine disturbs all of them alike. Loops are warm; of jobs two speeds are told: of the whole command, and
from the moment when all workers are at work. The rows of all jobs are compared.

Two cores may be two threads of one: so two independent loops run at once as well, in two processes that share nothing.
What these reach together is the most that any engine can.
"""

import argparse
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from batch_page import page
from ferkit.batch.engines import ENGINES
from ferkit.batch.plan import write_plan
from ferkit.batch.running import Progress, run
from ferkit.batch.storage import open_storage
from ferkit.models.export_formats import real_looking_faces
from ferkit.sources.images import FaceInput
from ferkit.sources.listing import PICTURE_SUFFIXES, list_references
from flat_memory import make_pictures
from machine_limits import processor_name

CONTENDER = Path(__file__).with_name("batch_contender.py")
LOOPS = ("one thread", "all threads", "one by one")
TOGETHER = "two at once"
WORKERS = (1, 2)
_PARTS = 24  # of a job: enough that its beginning and its end weigh little
_SMALL = FaceInput(height=96, width=96, channels=3, margin=0.0, align=False)


class Loop:
    """A plain loop in a process that is warm: `start` it on pictures, then `seconds` waits for its end."""

    def __init__(self, contender: str, detector: str, opened: ExitStack) -> None:
        self._process = opened.enter_context(
            subprocess.Popen(
                [sys.executable, str(CONTENDER), contender, detector],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        opened.callback(self._process.terminate)

    def start(self, paths: Sequence[str]) -> None:
        self._pipe(self._process.stdin).write(json.dumps(paths) + "\n")
        self._pipe(self._process.stdin).flush()

    def seconds(self) -> float:
        answer = self._pipe(self._process.stdout).readline()
        if not answer:
            sys.exit("A loop ended before its time; run batch_contender.py by itself to see why.")
        return float(json.loads(answer)["seconds"])

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise RuntimeError("The loop has no pipes.")
        return pipe


class Job:
    """A run of a batch job: how fast it was, and what it wrote."""

    def __init__(self, folder: Path, detector: str, engine: str, workers: int, out: Path) -> None:
        events: list[tuple[float, Progress]] = []

        def note(progress: Progress) -> None:
            events.append((time.perf_counter(), progress))

        pictures = sum(1 for _ in folder.iterdir())
        started = time.perf_counter()
        run(
            folder, out, engine=engine, workers=workers, progress=note, detector=detector,
            part_size=max(1, pictures // _PARTS),
        )  # fmt: skip
        self.whole = pictures / (time.perf_counter() - started)
        # After two parts of each worker all of them are warm.
        ready, end = events[min(2 * workers, len(events) - 2)], events[-1]
        self.steady = (end[1].pictures - ready[1].pictures) / (end[0] - ready[0])
        self.faces = end[1].faces
        self.parts = sorted(out.glob("part-*.parquet"))

    def rows(self) -> pa.Table:
        return pa.concat_tables([pq.read_table(part).replace_schema_metadata(None) for part in self.parts])


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        sets = {}
        if options.pictures:
            scenes = _scenes(options.scenes, Path(place) / "scenes", options.pictures)
            sets["scenes"] = measured(scenes, "yunet", options.rounds)
        if options.faces:
            sets["faces"] = measured(_faces(Path(place) / "faces", options.faces), "none", options.rounds)
        listing = listed(Path(place) / "many", options.listing) if options.listing else None
    found = {"about": _about(options), "sets": sets, "listing": listing}
    text = page(found)
    print(text)
    if options.write:
        Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        Path(__file__).with_name("BATCH.md").write_text(text)
    if not all(one["same_rows"] for one in sets.values()):
        sys.exit("The engines gave different rows.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=600, help="of the scenes; 0 leaves them out (default: 600)")
    parser.add_argument("--faces", type=int, default=8000, help="small ones; 0 leaves them out (default: 8000)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--listing", type=int, default=200_000, help="files of which a plan is made (default: 200000)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/BATCH.md and batch.json")
    return parser.parse_args()


def _about(options: argparse.Namespace) -> dict[str, Any]:
    import ferkit

    words = ["python benchmarks/batch.py SCENES"]
    words += [f"--{name} {getattr(options, name)}" for name in ("pictures", "faces", "rounds", "listing")]
    return {
        "command": " ".join(words),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load_after": round(os.getloadavg()[0], 1),
        "ferkit": ferkit.__version__,
    }


def _scenes(source: Path, folder: Path, count: int) -> Path:
    pictures = [path for path in sorted(source.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        sys.exit(f"{source} holds no pictures.")
    folder.mkdir()
    for number, picture in zip(range(count), itertools.cycle(pictures), strict=False):
        shutil.copyfile(picture, folder / f"{number:06}{picture.suffix}")
    return folder


def _faces(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, face in enumerate(real_looking_faces(_SMALL, count)):
        PIL.Image.fromarray(face).save(folder / f"{number:06}.jpg", quality=90)
    return folder


def measured(folder: Path, detector: str, rounds: int) -> dict[str, Any]:
    """Everything about one set of pictures: lists have a value per round, speeds are pictures per second."""
    paths = [str(path) for path in sorted(folder.iterdir())]
    speeds: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    first: Job | None = None
    same = True
    with ExitStack() as opened:
        loops = {name: Loop(name, detector, opened) for name in LOOPS}
        pair = [loops["one thread"], Loop("one thread", detector, opened)]
        for loop in {*loops.values(), *pair}:  # warm up what is made on first use
            loop.start(paths[:20])
            loop.seconds()
        for _ in range(rounds):
            for name, seconds in _loop_times(loops, pair, paths):
                speeds.setdefault(name, []).append(len(paths) / seconds)
            for engine, workers in itertools.product(ENGINES, WORKERS):
                with tempfile.TemporaryDirectory() as out:
                    job = Job(folder, detector, engine, workers, Path(out))
                    rows = job.rows()
                if first is None:
                    first, expected = job, rows
                same &= rows.equals(expected)
                speeds.setdefault(f"{engine} {workers}", []).append(job.steady)
                whole.setdefault(f"{engine} {workers}", []).append(job.whole)
    if first is None:
        sys.exit("There is no engine.")
    return {
        "pictures": len(paths),
        "faces": first.faces,
        "detector": detector,
        "bytes_read": sum(Path(path).stat().st_size for path in paths) / len(paths),
        "bytes_written": _packed_size(expected) / len(paths),
        "part_size": max(1, len(paths) // _PARTS),
        "speeds": speeds,
        "whole": whole,
        "same_rows": same,
    }


def _packed_size(rows: pa.Table) -> int:
    """Bytes of these rows in one file: parts are small here, and the footer of each weighs more than its rows."""
    stream = io.BytesIO()
    pq.write_table(rows, stream, compression="zstd")
    return stream.tell()


def _loop_times(loops: dict[str, Loop], pair: Sequence[Loop], paths: Sequence[str]) -> Iterator[tuple[str, float]]:
    for name, loop in loops.items():
        loop.start(paths)
        yield name, loop.seconds()
    for number, loop in enumerate(pair):
        loop.start(paths[number::2])
    yield TOGETHER, max(loop.seconds() for loop in pair)


def listed(folder: Path, count: int) -> dict[str, Any]:
    """What planning a job of so many files costs, in a thousand folders or fewer of a thousand files."""
    folder.mkdir()
    make_pictures(folder, count)
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        parts, pictures = write_plan(open_storage(out), list_references(str(folder)), None)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
    return {"pictures": pictures, "parts": parts, "seconds": seconds, "bytes": size}


if __name__ == "__main__":
    main()
