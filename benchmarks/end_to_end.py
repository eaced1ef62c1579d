"""Pictures per second and peak memory from file to emotions: ferkit against `fer` 25.10.3, in one run on the same cores.

    python benchmarks/end_to_end.py SCENES --peer-python fer-venv/bin/python
    python benchmarks/end_to_end.py SCENES --stages [--fer2013 fer2013.csv]

SCENES is a folder of pictures with a MANIFEST.csv, whose columns `file`, `frontal_faces` and `emotion` say what is in
them. The head of `benchmarks/peers/fer.txt` says how to make the peer's environment. With --stages the time of ferkit
is divided among its steps instead, see `picture_stages.py`.

Every contender is a warm process of its own for each number of cores, which it is kept to: loading is told apart. They
take turns, round by round, with the same pictures in the same order, so that a noisy machine disturbs all of them
alike. Speed is told with what was found, as speed alone misleads: a face is right if it overlaps by 0.35 with one that
YuNet sees, which is taken for the truth only if it finds the number of faces that the manifest tells in every picture.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).parent / "peers" / "picture_worker.py"
PEER, TRUTH = "fer", "ferkit yunet"
CONTENDERS = (PEER, "ferkit haar", TRUTH)
GOAL = 5.0
STILL = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Scene:
    """A picture, how many faces it holds, and what a single face shows ("" where that is open)."""

    path: Path
    faces: int
    emotion: str


class Worker:
    """A contender that is ready: `ask` and it answers."""

    def __init__(self, contender: str, cores: int, python: str, opened: ExitStack) -> None:
        self.contender, self.cores = contender, cores
        # What libraries say is shown only if the worker dies of it.
        self._words: IO[str] = opened.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - a stack closes it
        self._process = opened.enter_context(
            subprocess.Popen(
                [python, str(WORKER), contender, str(cores)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                text=True,
            )
        )
        opened.callback(self._process.terminate)

    def ask(self, question: Any) -> Any:
        to, back = self._process.stdin, self._process.stdout
        if to is None or back is None:
            raise RuntimeError("The worker has no pipes.")
        to.write(json.dumps(question) + "\n")
        to.flush()
        answer = back.readline()
        if not answer:
            self._words.seek(0)
            sys.exit(f"{self.contender} ended: {self._words.read()[-2000:]}")
        return json.loads(answer)


@dataclass
class Figures:
    """What was measured of one contender on some cores; lists have one value per round."""

    load: dict[str, float]
    speeds: list[float] = field(default_factory=list)  # pictures per second
    cpu: list[float] = field(default_factory=list)  # processor milliseconds per picture
    peak_mb: float = 0.0

    def add(self, cost: dict[str, float], pictures: int) -> None:
        self.speeds.append(pictures / cost["seconds"])
        self.cpu.append(cost["cpu_seconds"] / pictures * 1000)
        self.peak_mb = cost["mb"]

    def times(self, other: "Figures") -> float:
        """How many times as fast as another: median of the rounds' ratios, for neighbours in time met the same noise."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.speeds, other.speeds, strict=True))


def read_scenes(folder: Path) -> list[Scene]:
    with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].lower().endswith(STILL)]
    return [Scene(folder / row["file"], int(row["frontal_faces"]), row["emotion"]) for row in rows]


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def report_findings(found: dict[str, list[Any]], scenes: Sequence[Scene]) -> None:
    """Print how many faces each contender found, missed and invented, and single faces named as the manifest does."""
    truth, wanted = found[TRUTH], sum(scene.faces for scene in scenes)
    if [len(faces) for faces in truth] != [scene.faces for scene in scenes]:
        sys.exit("YuNet does not find the manifest's number of faces in every picture, so there is no truth to go by.")
    print(f"\nfound in {len(scenes)} pictures with {wanted} faces")
    for name in CONTENDERS:
        if name not in found:
            continue
        right = false = named = asked = 0
        for faces, real, scene in zip(found[name], truth, scenes, strict=True):
            hits = [[i for i, (there, _) in enumerate(real) if overlap(box, there) > 0.35] for box, _ in faces]
            seen = len({hit[0] for hit in hits if hit})
            right += seen
            false += len(faces) - seen
            if scene.faces == 1 and scene.emotion:
                asked += 1
                named += any(hit and label == scene.emotion for hit, (_, label) in zip(hits, faces, strict=True))
        print(
            f"{name:14} {right:3} right, {wanted - right} missed, {false:2} false; "
            f"{named} of {asked} single faces named as the manifest has them"
        )


def measure(scenes: Sequence[Scene], options: argparse.Namespace) -> dict[int, dict[str, Figures]]:
    """Run all contenders in turns; print what they find, and return their figures by cores and name."""
    pythons = dict.fromkeys(CONTENDERS, sys.executable)
    if options.peer_python is None:
        del pythons[PEER]
    else:
        pythons[PEER] = str(options.peer_python)
    pictures = [str(scene.path) for scene in scenes]
    figures: dict[int, dict[str, Figures]] = {cores: {} for cores in options.cores}
    found: dict[str, list[Any]] = {}
    with ExitStack() as opened:
        workers = []
        for cores in options.cores:
            for name, python in pythons.items():
                worker = Worker(name, cores, python, opened)
                figures[cores][name] = Figures(worker.ask(pictures))
                found[name] = worker.ask("look")  # the first look also warms up what is made on first use
                workers.append(worker)
        report_findings(found, scenes)
        for _ in range(options.rounds):
            for worker in workers:
                figures[worker.cores][worker.contender].add(worker.ask(options.repeat), options.repeat * len(pictures))
    return figures


def report_speed(figures: dict[int, dict[str, Figures]]) -> bool:
    """Print the tables; True if ferkit reaches its goal on every number of cores."""
    reached = True
    for cores, contenders in figures.items():
        print(f"\n{cores} core{'s' * (cores > 1)}")
        peer = contenders.get(PEER)
        for name, one in contenders.items():
            print(
                f"{name:14} {statistics.median(one.speeds):6.2f} pictures/s ({min(one.speeds):.2f} to "
                f"{max(one.speeds):.2f}), {statistics.median(one.cpu):4.0f} ms of processor a picture, "
                f"peak {one.peak_mb:4.0f} MB; loaded in {one.load['seconds']:.1f} s, {one.load['mb']:.0f} MB"
            )
        for name, one in contenders.items():
            if peer is not None and name != PEER:
                cpu = statistics.median(peer.cpu) / statistics.median(one.cpu)
                print(
                    f"{name} against {PEER}: {one.times(peer):.2f} times as fast, {cpu:.2f} times less processor time, "
                    f"{one.peak_mb / peer.peak_mb:.2f} of its memory"
                )
        reached &= peer is None or contenders[TRUTH].times(peer) >= GOAL
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of pictures with a MANIFEST.csv")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has fer; without it ferkit runs alone")
    parser.add_argument("--repeat", type=int, default=3, help="times the pictures a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="numbers of cores (default: 1 2)")
    parser.add_argument("--stages", action="store_true", help="where the time of ferkit goes, on the first of --cores")
    parser.add_argument("--fer2013", help="with --stages: also 5,000 faces of this data set as files")
    options = parser.parse_args()
    scenes = read_scenes(options.scenes)
    if options.stages:
        from picture_stages import report_stages

        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores[0]])
        report_stages([scene.path for scene in scenes], options.fer2013, options.rounds)
        return

    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"{options.rounds} rounds of {options.repeat} times {len(scenes)} pictures, medians; "
        f"{os.cpu_count()} cores, load average before: {load}"
    )
    reached = report_speed(measure(scenes, options))
    print("\nload average after: " + ", ".join(f"{one:.1f}" for one in os.getloadavg()))
    if options.peer_python is not None:
        print(f"Goal ({TRUTH} at least {GOAL:g} times as fast as {PEER}):", "reached" if reached else "MISSED")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
