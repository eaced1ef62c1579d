"""Frames per second from a video file to the emotions of everybody in it, and where the time goes.

    python benchmarks/video.py --yunet WEIGHTS [--peer-python fer-venv/bin/python] [--out benchmarks/VIDEO.md]

Clips are made on the spot: the sample portrait, once or five times, moving over a textured ground for some seconds, 30
frames per second, H.264. Contenders are `ferkit video`'s own code without and with an annotated clip, the same with the
Haar cascade, the loop of most tutorials (Haar on every frame, one face at a time, no tracking), and `Video.analyze` of
`fer` 25.10.3 where its environment is given; the head of `benchmarks/peers/fer.txt` says how to make that.

Every run is a process of its own, kept to one core or two; contenders take turns, round by round, so that a noisy
machine disturbs all of them alike. Loading is not counted. Speed is told with what was found, as speed alone misleads:
faces per frame, and how often a label flickers (nothing in the clips changes but the place of the face).
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit.models.samples import sample_picture
from ferkit.sources.images import read_image
from ferkit.video.clip import ClipWriter

WORKER = Path(__file__).parent / "peers" / "video_worker.py"
SIZES = ((640, 360), (1280, 720))
CROWDS = (1, 5)
FPS = 30
OURS, PEER = "ferkit", "fer"
CONTENDERS = (OURS, "ferkit, annotated", "ferkit haar", "plain loop", PEER, "fer, annotated")
GOAL_FPS = 30.0
Figures = dict[str, Any]


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
    done = subprocess.run(
        [python, str(WORKER), contender, str(cores), str(clip), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{contender} ended with {done.returncode}: {done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def stages(clip: Path, detector: str) -> dict[str, float]:
    """Milliseconds of processor per frame by stage, on whatever cores there are."""
    from ferkit import video as following
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video import frames as stream
    from ferkit.video.analysis import analyze_video
    from ferkit.video.overlay import Overlay

    spent: dict[str, float] = {}

    def timed(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            with clock(stage):
                return work(*args, **options)

        return measured

    @contextmanager
    def clock(stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - started

    recognizer = EmotionRecognizer(detector=detector)
    recognizer.detect = timed("detect", recognizer.detect)  # type: ignore[method-assign]
    recognizer.probabilities = timed("classify", recognizer.probabilities)  # type: ignore[method-assign]
    place: Any = following
    reader: Any = stream
    kept = place.follow, place.Gray, reader._pixels
    place.follow = timed("follow", kept[0])
    place.Gray = type("Gray", (), {"of": staticmethod(timed("follow", kept[1].of))})
    reader._pixels = timed("to RGB", kept[2])
    try:
        draw = Overlay(recognizer.classes)
        started = time.process_time()
        with analyze_video(clip, recognizer) as analysis, ClipWriter(clip.with_name("stages.mp4"), rate=FPS) as writer:
            count = 0
            while True:
                before, others = time.process_time(), sum(spent.values())
                found = next(analysis, None)
                # What is left of the step is decoding and what little lies between.
                rest = time.process_time() - before - (sum(spent.values()) - others)
                spent["decode, rest"] = spent.get("decode, rest", 0.0) + rest
                if found is None:
                    break
                count += 1
                with clock("draw"):
                    picture = draw(found)
                with clock("encode"):
                    writer.write(picture, found.time_s)
        spent["in all"] = time.process_time() - started
    finally:
        place.follow, place.Gray, reader._pixels = kept
    return {stage: seconds / count * 1000 for stage, seconds in spent.items()}


def median(runs: list[Figures], name: str) -> float:
    return statistics.median(float(one[name]) for one in runs)


def table(measured: dict[tuple[str, int, str], list[Figures]]) -> list[str]:
    """Lines of Markdown: a row for each clip, number of cores and contender."""
    lines = [
        "| clip | cores | contender | frames/s | CPU ms/frame | faces/frame | label changes/s | as fast as fer | by CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (clip, cores, contender), runs in measured.items():
        speed = median(runs, "frames") / median(runs, "seconds")
        peer = measured.get((clip, cores, PEER if "annotated" not in contender else "fer, annotated"))
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


def stage_table(found: dict[str, dict[str, float]]) -> list[str]:
    names = ("decode, rest", "to RGB", "detect", "follow", "classify", "draw", "encode", "in all")
    lines = [f"| clip | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for clip, spent in found.items():
        lines.append(f"| {clip} | " + " | ".join(f"{spent.get(name, 0.0):.1f}" for name in names) + " |")
    return lines


def page(measured: dict[tuple[str, int, str], list[Figures]], found: dict[str, dict[str, float]], words: str) -> str:
    verdict = "Not measured: that needs two cores."
    if runs := measured.get(("640x360, 1 face", 2, OURS)):
        speed = median(runs, "frames") / median(runs, "seconds")
        verdict = f"{'Reached' if speed >= GOAL_FPS else 'Missed'}: {speed:.0f}."
    return "\n".join(
        [
            "# Speed of video",
            "",
            "From a file to the emotions of everybody in it, in single runs in which the contenders took turns; absolute",
            "figures mean little elsewhere. `benchmarks/video.py` says what is measured and how. Faces and label changes are",
            "to be judged by the clips: they show as many faces as their name says, which change their place and nothing else.",
            "",
            f"Command: `{words}`",
            f"Machine: {os.cpu_count()} cores, {processor()}; Python {platform.python_version()}.",
            f"Date: {time.strftime('%Y-%m-%d')}.",
            "",
            f"Goal: {GOAL_FPS:.0f} frames per second at 640x360, one face, two cores. {verdict}",
            "",
            *table(measured),
            "",
            "## Where the time goes",
            "",
            "Milliseconds of processor per frame of ferkit with YuNet and an annotated clip. The detector searches five times",
            "a second; on the frames in between faces are followed.",
            "",
            *stage_table(found),
            "",
        ]
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's weight file")
    parser.add_argument("--peer-python", help="interpreter of an environment with fer")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--small", action="store_true", help="640x360 with one face only")
    parser.add_argument("--out", type=Path, help="write a page here")
    given = parser.parse_args()
    os.environ["FERKIT_YUNET"] = str(given.yunet.resolve())
    contenders = [one for one in CONTENDERS if given.peer_python or (not one.startswith(PEER + ",") and one != PEER)]
    clips = [(size, people) for size in SIZES for people in CROWDS]
    measured: dict[tuple[str, int, str], list[Figures]] = {}
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), people in clips[:1] if given.small else clips:
            name = f"{width}x{height}, {people} face{'s' if people > 1 else ''}"
            clip = make_clip(Path(folder) / "clip.mp4", width, height, people, given.seconds)
            found[name] = stages(clip, "yunet")
            for _ in range(given.rounds):
                for cores in given.cores:
                    for contender in contenders:
                        python = (
                            given.peer_python if contender.startswith("fer,") or contender == PEER else sys.executable
                        )
                        figures = run(contender, cores, clip, python)
                        measured.setdefault((name, cores, contender), []).append(figures)
                        print(name, cores, contender, f"{figures['frames'] / figures['seconds']:.1f}/s", flush=True)
    words = " ".join(
        ["python benchmarks/video.py", *(Path(word).name if "/" in word else word for word in sys.argv[1:])]
    )
    text = page(measured, found, words)
    print(text)
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
