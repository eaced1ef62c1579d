"""One contender of `benchmarks/end_to_end.py` in a process of its own, for it may need another interpreter.

    python picture_worker.py CONTENDER CORES

Reads lines of JSON from standard input: first the pictures (a list of paths), and answers with what it cost to get
ready; then "look" answers with the faces of every picture, and a number N with the cost of all pictures N times over.
It needs Linux, for only there can a process be kept to some cores.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# A face: its box x1, y1, x2, y2 and its most probable label.
Faces = list[tuple[list[int], str]]
Recognize = Callable[[Sequence[str]], Iterator[Faces]]


def ferkit_with(detector: str) -> Recognize:
    """The way ferkit is called for many pictures: paths in, results out as they come."""
    from ferkit.recognizer import EmotionRecognizer

    recognizer: Any = EmotionRecognizer(detector=detector)

    def recognize(paths: Sequence[str]) -> Iterator[Faces]:
        for result in recognizer.stream(paths):
            yield [(face.box.to_list(), face.label) for face in result]

    return recognize


def fer() -> Recognize:
    """What the README of fer says: `FER()` with all defaults (Haar cascade, LiteRT), one picture after another."""
    cv2: Any = importlib.import_module("cv2")
    detector = importlib.import_module("fer.fer").FER()

    def recognize(paths: Sequence[str]) -> Iterator[Faces]:
        for path in paths:
            faces = []
            for face in detector.detect_emotions(cv2.imread(path)):
                x, y, wide, high = (int(edge) for edge in face["box"])
                faces.append(([x, y, x + wide, y + high], max(face["emotions"], key=face["emotions"].get)))
            yield faces

    return recognize


CONTENDERS: dict[str, Callable[[], Recognize]] = {
    "fer": fer,
    "ferkit haar": lambda: ferkit_with("haar"),
    "ferkit yunet": lambda: ferkit_with("yunet"),
}


def memory_mb(field: str) -> float:
    """A field of Linux' process status in MB: VmRSS is what is held now, VmHWM the most that was."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def main() -> None:
    contender, cores = sys.argv[1], int(sys.argv[2])
    # Before any import: libraries count the cores they may use when they are loaded.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    # Libraries greet on standard output, which belongs to the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(document: Any) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    paths: list[str] = json.loads(sys.stdin.readline())
    started = time.perf_counter()
    recognize = CONTENDERS[contender]()
    answer({"seconds": time.perf_counter() - started, "mb": memory_mb("VmRSS")})
    for line in sys.stdin:
        request = json.loads(line)
        if request == "look":
            answer(list(recognize(paths)))
            continue
        started, cpu = time.perf_counter(), time.process_time()
        for _ in recognize(paths * request):
            pass
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        answer({"seconds": seconds, "cpu_seconds": cpu, "mb": memory_mb("VmHWM")})


if __name__ == "__main__":
    main()
