"""Pictures per second of batch jobs, at one and two workers, of every engine, against plain loops in the same run.

    python benchmarks/batch.py SCENES            # prints
    python benchmarks/batch.py SCENES --write    # and writes benchmarks/BATCH.md
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
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from _shared import HERE, STILL, Worker, options_of, processor_name, publish, ratio, spread
from ferkit.batch.engines import ENGINES
from ferkit.batch.plan import write_plan
from ferkit.batch.running import Progress, run
from ferkit.batch.storage import open_storage
from ferkit.models.export_formats import real_looking_faces
from ferkit.sources.images import FaceInput
from ferkit.sources.listing import list_references

# Contenders of `peers/worker.py`, and what the page calls them.
LOOPS = {
    "one thread": "plain loop over `EmotionRecognizer`, one thread",
    "all threads": "plain loop over `EmotionRecognizer`, its own default",
    "one by one": "one picture per call, one face at a time, networks on all threads",
}
BASE, TOGETHER = "one thread", "two at once"
WORKERS = (1, 2)
_PARTS = 24  # of a job: enough that its beginning and its end weigh little
_PER_FOLDER = 1000
_SMALL = FaceInput(height=96, width=96, channels=3, margin=0.0, align=False)

_HEAD = """# Speed of batch jobs

`{command}`

{processor}, {cores} logical cores. Files are in the page cache. Values are medians over the rounds, with minimum and maximum in
brackets; ratios are medians of the ratio in each round. *Working* is measured from the moment at which all workers are running;
*whole* includes listing, planning and starting the workers. The longer a job, the less these matter.
"""


@dataclass
class Measured:
    """One set of pictures; lists have a value per round, in pictures per second."""

    title: str
    detector: str
    paths: list[str]
    faces: int = 0
    rows: pa.Table | None = None
    same_rows: bool = True
    loops: dict[str, list[float]] = field(default_factory=dict)
    working: dict[tuple[str, int], list[float]] = field(default_factory=dict)  # by engine and workers
    whole: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    @property
    def part_size(self) -> int:
        return max(1, len(self.paths) // _PARTS)


def measure(title: str, detector: str, folder: Path, rounds: int) -> Measured:
    """Loops and jobs in turns over the pictures of a folder."""
    done = Measured(title, detector, [str(path) for path in sorted(folder.iterdir())])
    with ExitStack() as opened:
        loops = {name: Worker(opened, f"{name}, {detector}") for name in LOOPS}
        pair = [loops[BASE], Worker(opened, f"{BASE}, {detector}")]
        for loop in {*loops.values(), *pair}:  # warm up what is made on first use
            loop.ask(done.paths[:20])
        for _ in range(rounds):
            for name, seconds in _loop_times(loops, pair, done.paths):
                done.loops.setdefault(name, []).append(len(done.paths) / seconds)
            for engine, workers in itertools.product(ENGINES, WORKERS):
                with tempfile.TemporaryDirectory() as out:
                    _job(done, folder, engine, workers, Path(out))
    return done


def _loop_times(loops: dict[str, Worker], pair: Sequence[Worker], paths: Sequence[str]) -> Iterator[tuple[str, float]]:
    for name, loop in loops.items():
        yield name, loop.ask(paths)["seconds"]
    for number, loop in enumerate(pair):
        loop.start(paths[number::2])
    yield TOGETHER, max(loop.answer()["seconds"] for loop in pair)


def _job(done: Measured, folder: Path, engine: str, workers: int, out: Path) -> None:
    """One run of a batch job: how fast it was, and whether it wrote what the others did."""
    events: list[tuple[float, Progress]] = []
    started = time.perf_counter()
    run(
        folder, out, engine=engine, workers=workers, detector=done.detector, part_size=done.part_size,
        progress=lambda progress: events.append((time.perf_counter(), progress)),
    )  # fmt: skip
    done.whole.setdefault((engine, workers), []).append(len(done.paths) / (time.perf_counter() - started))
    # After two parts of each worker all of them are warm.
    ready, end = events[min(2 * workers, len(events) - 2)], events[-1]
    done.working.setdefault((engine, workers), []).append((end[1].pictures - ready[1].pictures) / (end[0] - ready[0]))
    done.faces = end[1].faces
    rows = pa.concat_tables(
        [pq.read_table(part).replace_schema_metadata(None) for part in sorted(out.glob("part-*.parquet"))]
    )
    done.same_rows &= done.rows is None or rows.equals(done.rows)
    done.rows = rows


def section(one: Measured) -> str:
    """A set as a section of the page."""
    base, limit = one.loops[BASE], one.loops[TOGETHER]
    size = sum(Path(path).stat().st_size for path in one.paths) / len(one.paths)
    lines = [
        f"## {one.title}\n",
        f"{len(one.paths):,} pictures of {size / 1000:.3g} kB with {one.faces:,} faces, detector `{one.detector}`, "
        f"parts of {one.part_size}.\n",
        "| | pictures/s | relative to the plain loop | whole, pictures/s |",
        "|---|---|---|---|",
    ]
    for name, values in one.loops.items():
        title = LOOPS.get(name, "two plain loops at once, one thread each")
        lines.append(f"| {title} | {spread(values, '.1f')} | {ratio(values, base):.2f} |  |")
    for (engine, workers), values in one.working.items():
        title = f"`ferkit batch --engine {engine} --workers {workers}`, working"
        whole = statistics.median(one.whole[engine, workers])
        lines.append(f"| {title} | {spread(values, '.1f')} | {ratio(values, base):.2f} | {whole:.1f} |")
    packed = io.BytesIO()  # in one file: parts are small here, and the footer of each weighs more than its rows
    pq.write_table(one.rows, packed, compression="zstd")
    rows = "bit-identical rows" if one.same_rows else "DIFFERENT rows"
    lines += [
        f"\nAll jobs wrote {rows}: {packed.tell() / len(one.paths):.0f} bytes per picture, all in one file.\n",
        "| throughput of two workers | of twice the plain loop | of twice one worker | of two plain loops at once |",
        "|---|---|---|---|",
    ]
    for engine in ENGINES:
        two = one.working[engine, 2]
        shares = (ratio(two, base) / 2, ratio(two, one.working[engine, 1]) / 2, ratio(two, limit))
        lines.append(f"| engine `{engine}` | {' | '.join(f'{share:.0%}' for share in shares)} |")
    lines.append(f"| two plain loops at once | {ratio(limit, base) / 2:.0%} | | 100% |\n")
    return "\n".join(lines)


def planning(folder: Path, count: int) -> str:
    """What planning a job of so many files costs, in folders of a thousand names of one picture."""
    for first in range(0, count, _PER_FOLDER):
        place = folder / f"{first // _PER_FOLDER:04}"
        place.mkdir(parents=True)
        picture = place / f"{first:06}.jpg"
        PIL.Image.new("RGB", (96, 96)).save(picture)
        for number in range(first + 1, min(first + _PER_FOLDER, count)):
            os.link(picture, place / f"{number:06}.jpg")
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        parts, _ = write_plan(open_storage(out), list_references(str(folder)), None)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
    return (
        f"## Planning\n\n{count:,} files in folders of a thousand: {seconds:.1f} s, "
        f"{1e6 * seconds / count:.1f} µs and {size / count:.1f} bytes per picture, {parts:,} parts.\n"
    )


def _scenes(source: Path, folder: Path, count: int) -> Path:
    pictures = [path for path in sorted(source.iterdir()) if path.suffix.lower() in STILL]
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


def _options() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("scenes", type=Path, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=600, help="of the scenes; 0 leaves them out (default: 600)")
    parser.add_argument("--faces", type=int, default=8000, help="small ones; 0 leaves them out (default: 8000)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--listing", type=int, default=200_000, help="files of which a plan is made (default: 200000)")
    parser.add_argument("--write", action="store_true", help="write benchmarks/BATCH.md")
    return parser.parse_args()


def main() -> None:
    options = _options()
    os.environ["FERKIT_OFFLINE"] = "1"
    words = ["python benchmarks/batch.py SCENES"]
    words += [f"--{name} {getattr(options, name)}" for name in ("pictures", "faces", "rounds", "listing")]
    parts = [_HEAD.format(command=" ".join(words), processor=processor_name(), cores=os.cpu_count())]
    sets = []
    with tempfile.TemporaryDirectory() as place:
        if options.pictures:
            scenes = _scenes(options.scenes, Path(place) / "scenes", options.pictures)
            sets.append(measure("Whole pictures", "yunet", scenes, options.rounds))
        if options.faces:
            faces = _faces(Path(place) / "faces", options.faces)
            sets.append(measure("Small faces", "none", faces, options.rounds))
        parts += [section(one) for one in sets]
        if options.listing:
            parts.append(planning(Path(place) / "many", options.listing))
    publish("\n".join(parts), HERE / "BATCH.md" if options.write else None)
    if not all(one.same_rows for one in sets):
        sys.exit("The engines gave different rows.")


if __name__ == "__main__":
    main()
