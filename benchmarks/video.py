"""Frames per second from a video file to the emotions of everybody in it.

    python benchmarks/video.py [--peer-python fer-venv/bin/python] [--out benchmarks/VIDEO.md]

Clips are made on the spot: the sample portrait, once or five times, moving over a textured ground for some seconds, 30
frames per second, H.264. Contenders are `ferkit video`'s own code without and with an annotated clip, the same with the
Haar cascade, the loop of most tutorials (Haar on every frame, one face at a time, no tracking), and `Video.analyze` of
`fer` 25.10.3 where its environment is given; the head of `benchmarks/peers/fer.txt` says how to make that.

Every run is a process of its own, kept to one core or two; contenders take turns, round by round, so that a noisy
machine disturbs all of them alike. Loading is not counted. Speed is told with what was found, as speed alone misleads:
faces per frame, and how often a label flickers (nothing in the clips changes but the place of the face).
"""

import itertools
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from _shared import Worker, options_of, processor_name, publish
from ferkit.models import sample_picture
from ferkit.sources.images import read_image
from ferkit.video.clip import ClipWriter

SIZES = ((640, 360), (1280, 720))
CROWDS = (1, 5)
FPS = 30
OURS, PEERS = "ferkit", ("fer", "fer, annotated")
CONTENDERS = (OURS, "ferkit, annotated", "ferkit haar", "plain loop", *PEERS)
GOAL_FPS = 30.0
Figures = dict[str, Any]
# By clip, number of cores and contender, a value per round.
Measured = dict[tuple[str, int, str], list[Figures]]


def portrait(side: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The sample's head, float32 (side, side, 3), and how much of it shows (side, side, 1): nothing at the corners."""
    head = read_image(sample_picture())[20:300, 85:365]
    pixels = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA if side < 280 else cv2.INTER_CUBIC)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    shows = np.clip((1 - (x**4 + y**4)) / 0.3, 0, 1)[..., None]
    return pixels.astype(np.float32), shows.astype(np.float32)


def frames(width: int, height: int, people: int, seconds: float) -> Iterator[npt.NDArray[np.uint8]]:
    """Portraits that sway, each in its own part of the picture."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.normal(110, 25, (height // 8, width // 8, 3)).astype(np.float32), (width, height))
    columns = 1 if people == 1 else 3
    rows = math.ceil(people / columns)
    cell = width / columns, height / rows
    side = int(0.72 * min(cell))
    head, shows = portrait(side)
    for number in range(round(seconds * FPS)):
        frame, time_s = ground.copy(), number / FPS
        for person in range(people):
            turn = time_s * (0.7 + 0.13 * person) + person
            x = (person % columns + 0.5) * cell[0] + 0.12 * side * math.sin(2.1 * turn) - side / 2
            y = (person // columns + 0.5) * cell[1] + 0.1 * side * math.cos(1.7 * turn) - side / 2
            left, top = (int(np.clip(at, 0, most - side)) for at, most in ((x, width), (y, height)))
            part = frame[top : top + side, left : left + side]
            part[:] = part + shows * (head - part)
        yield np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)


def make_clip(target: Path, width: int, height: int, people: int, seconds: float) -> Path:
    with ClipWriter(target, rate=FPS) as clip:
        for number, frame in enumerate(frames(width, height, people, seconds)):
            clip.write(frame, number / FPS)
    return target


def run(contender: str, cores: int, clip: Path, python: str) -> Figures:
    """One run of one contender in a process of its own."""
    target = clip.with_name("annotated.mp4")
    target.unlink(missing_ok=True)
    with ExitStack() as opened:
        answer = Worker(opened, f"video: {contender}", cores, python).ask([str(clip), str(target)])
    found = answer["found"]
    faces = sum(len(seen) for _, seen in found) / max(len(found), 1)
    return {**answer, "frames": len(found), "faces": faces, "changes": changes_per_second([seen for _, seen in found])}


def changes_per_second(frames: list[list[tuple[float, str]]]) -> float:
    """How often the label of a face is another than in the frame before, per face and second; faces go by nearest x."""
    changes = pairs = 0
    for before, after in itertools.pairwise(frames):
        for x, label in after:
            if before:
                nearest = min(before, key=lambda face: abs(face[0] - x))
                changes += nearest[1] != label
                pairs += 1
    return changes / pairs * FPS if pairs else 0.0


def median(runs: list[Figures], name: str) -> float:
    return statistics.median(float(one[name]) for one in runs)


def table(measured: Measured) -> list[str]:
    """Lines of Markdown: a row for each clip, number of cores and contender."""
    lines = [
        "| clip | cores | program | frames/s | CPU ms/frame | faces/frame | label changes/s | as fast as fer | by CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (clip, cores, contender), runs in measured.items():
        speed = median(runs, "frames") / median(runs, "seconds")
        peer = measured.get((clip, cores, PEERS["annotated" in contender]))
        cpu = median(runs, "cpu_seconds") / median(runs, "frames") * 1000
        ratio = by_cpu = ""
        if peer:
            ratio = f"{speed * median(peer, 'seconds') / median(peer, 'frames'):.1f}x"
            by_cpu = f"{median(peer, 'cpu_seconds') / median(peer, 'frames') * 1000 / cpu:.1f}x"
        lines.append(
            f"| {clip} | {cores} | {contender} | {speed:.1f} | {cpu:.1f} | {median(runs, 'faces'):.2f} "
            f"| {median(runs, 'changes'):.2f} | {ratio} | {by_cpu} |"
        )
    return lines


def page(measured: Measured, words: str) -> str:
    verdict = "Not measured: that needs two cores."
    if runs := measured.get(("640x360, 1 face", 2, OURS)):
        speed = median(runs, "frames") / median(runs, "seconds")
        verdict = f"{'Reached' if speed >= GOAL_FPS else 'Missed'}: {speed:.0f}."
    return "\n".join([
        "# Speed of video",
        "",
        "Throughput of `ferkit video`, compared with the package `fer`. The programs run in turns on synthetic clips; compare ratios, not",
        "absolute values. In each clip, the stated number of faces moves without changing its expression. The correct values are therefore",
        "this number of *faces/frame*, and 0 *label changes/s*. `benchmarks/video.py` describes the measurement.",
        "",
        f"Command: `{words}`",
        f"Machine: {os.cpu_count()} cores, {processor_name()}; Python {platform.python_version()}.",
        f"Date: {time.strftime('%Y-%m-%d')}.",
        "",
        f"Goal: {GOAL_FPS:.0f} frames per second at 640x360, one face, two cores. {verdict}",
        "",
        *table(measured),
        "",
    ])  # fmt: skip


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--peer-python", help="interpreter of an environment with fer")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--small", action="store_true", help="640x360 with one face only")
    parser.add_argument("--out", type=Path, help="write a page here")
    given = parser.parse_args()
    os.environ["FERKIT_OFFLINE"] = "1"
    pythons = {one: given.peer_python if one in PEERS else sys.executable for one in CONTENDERS}
    clips = [(size, people) for size in SIZES for people in CROWDS]
    measured: Measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), people in clips[:1] if given.small else clips:
            name = f"{width}x{height}, {people} face{'s' if people > 1 else ''}"
            clip = make_clip(Path(folder) / "clip.mp4", width, height, people, given.seconds)
            for _ in range(given.rounds):
                for cores in given.cores:
                    for contender, python in pythons.items():
                        if python is None:
                            continue
                        figures = run(contender, cores, clip, python)
                        measured.setdefault((name, cores, contender), []).append(figures)
                        print(name, cores, contender, f"{figures['frames'] / figures['seconds']:.1f}/s", flush=True)
    words = " ".join(
        ["python benchmarks/video.py", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]
    )
    publish(page(measured, words), given.out)


if __name__ == "__main__":
    main()
