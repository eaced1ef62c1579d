"""Pictures per second and peak memory from file to emotions: ferkit against `fer` 25.10.3, in one run on the same cores.

    python benchmarks/end_to_end.py SCENES --peer-python fer-venv/bin/python

SCENES is a folder of pictures with a MANIFEST.csv, whose columns `file`, `frontal_faces` and `emotion` say what is in
them. The head of `benchmarks/peers/fer.txt` says how to make the peer's environment.

Every contender is a warm process of its own for each number of cores, which it is kept to: loading is told apart. They
take turns, round by round, with the same pictures in the same order, so that a noisy machine disturbs all of them
alike. Speed is told with what was found, as speed alone misleads: a face is right if it overlaps by 0.35 with one that
YuNet sees, which is taken for the truth only if it finds the number of faces that the manifest tells in every picture.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _shared import Scene, Worker, load_average, options_of, ratio, read_scenes, spread

PEER, TRUTH = "fer", "ferkit yunet"
CONTENDERS = (PEER, "ferkit haar", TRUTH)
GOAL = 5.0


@dataclass
class Figures:
    """What was measured of one contender on some cores; lists have one value per round."""

    load: dict[str, float]
    speeds: list[float] = field(default_factory=list)  # pictures per second
    cpu: list[float] = field(default_factory=list)  # CPU milliseconds per picture
    peak_mb: float = 0.0

    def add(self, cost: dict[str, Any], pictures: int) -> None:
        self.speeds.append(pictures / cost["seconds"])
        self.cpu.append(cost["cpu_seconds"] / pictures * 1000)
        self.peak_mb = cost["mb"]


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def report_findings(found: dict[str, list[Any]], scenes: Sequence[Scene]) -> None:
    """Print how many faces each contender found, missed and invented, and single faces named as the manifest does."""
    truth, wanted = found[TRUTH], sum(scene.faces for scene in scenes)
    if [len(faces) for faces in truth] != [scene.faces for scene in scenes]:
        sys.exit("YuNet does not find the manifest's number of faces in every picture, so there is no truth to go by.")
    print(f"\nfound in {len(scenes)} pictures with {wanted} faces")
    for name, answers in found.items():
        right = false = named = asked = 0
        for faces, real, scene in zip(answers, truth, scenes, strict=True):
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
    pythons = {name: str(options.peer_python) if name == PEER else sys.executable for name in CONTENDERS}
    if options.peer_python is None:
        del pythons[PEER]
    pictures = [str(scene.path) for scene in scenes]
    figures: dict[int, dict[str, Figures]] = {cores: {} for cores in options.cores}
    found: dict[str, list[Any]] = {}
    with ExitStack() as opened:
        workers = [Worker(opened, name, cores, python) for cores in options.cores for name, python in pythons.items()]
        for worker in workers:
            figures[worker.cores][worker.contender] = Figures(worker.load)
            found[worker.contender] = worker.ask(pictures)["found"]  # this also warms up what is made on first use
        report_findings(found, scenes)
        for _ in range(options.rounds):
            for worker in workers:
                cost = worker.ask(pictures * options.repeat)
                figures[worker.cores][worker.contender].add(cost, options.repeat * len(pictures))
    return figures


def report_speed(figures: dict[int, dict[str, Figures]]) -> bool:
    """Print the tables; True if ferkit reaches its goal on every number of cores."""
    reached = True
    for cores, contenders in figures.items():
        print(f"\n{cores} core{'s' * (cores > 1)}")
        peer = contenders.get(PEER)
        for name, one in contenders.items():
            print(
                f"{name:14} {spread(one.speeds, '.2f')} pictures/s, {statistics.median(one.cpu):4.0f} ms of CPU a picture, "
                f"peak {one.peak_mb:4.0f} MB; loaded in {one.load['seconds']:.1f} s, {one.load['mb']:.0f} MB"
            )
        for name, one in contenders.items():
            if peer is not None and name != PEER:
                cpu = statistics.median(peer.cpu) / statistics.median(one.cpu)
                print(
                    f"{name} against {PEER}: {ratio(one.speeds, peer.speeds):.2f} times as fast, {cpu:.2f} times less "
                    f"CPU time, {one.peak_mb / peer.peak_mb:.2f} of its memory"
                )
        reached &= peer is None or ratio(contenders[TRUTH].speeds, peer.speeds) >= GOAL
    return reached


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("scenes", type=Path, help="folder of pictures with a MANIFEST.csv")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has fer; without it ferkit runs alone")
    parser.add_argument("--repeat", type=int, default=3, help="times the pictures a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="numbers of cores (default: 1 2)")
    options = parser.parse_args()
    os.environ["FERKIT_OFFLINE"] = "1"
    scenes = read_scenes(options.scenes)
    print(
        f"{options.rounds} rounds of {options.repeat} times {len(scenes)} pictures, medians; "
        f"{os.cpu_count()} cores, load average before: {load_average()}"
    )
    reached = report_speed(measure(scenes, options))
    print(f"\nload average after: {load_average()}")
    if options.peer_python is not None:
        print(f"Goal ({TRUTH} at least {GOAL:g} times as fast as {PEER}):", "reached" if reached else "MISSED")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
