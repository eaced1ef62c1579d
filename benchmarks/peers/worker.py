"""One contender of `end_to_end.py`, `batch.py` or `video.py` in a process of its own; it may need another interpreter.

    python worker.py CONTENDER CORES

First it writes a line of JSON: what loading took. Then it reads lines of JSON, each a list of paths, and answers each with
a line: `seconds`, `cpu_seconds`, the most memory so far in `mb`, and what was `found`. Contenders of pictures find faces:
for each path a list of boxes and labels. Contenders of videos get a clip and the place of an annotated copy, and find, for
each frame, its time, and x and label of its faces. Linux alone can keep a process to some cores.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Paths in, something that JSON can hold out.
Contender = Callable[[Sequence[str]], list[Any]]
Faces = list[tuple[list[int], str]]


def module(name: str) -> Any:
    """What only one of the interpreters has."""
    return importlib.import_module(name)


def ferkit_pictures(detector: str, threads: int | None = None) -> Contender:
    """The way ferkit is called for many pictures: paths in, results out as they come."""
    from ferkit.models.classifier import EmotionClassifier
    from ferkit.recognizer import EmotionRecognizer

    classifier = EmotionClassifier.load("default", threads=threads)
    recognizer = EmotionRecognizer(classifier, detector, threads=threads)
    return lambda paths: [[(face.box.to_list(), face.label) for face in one] for one in recognizer.stream(list(paths))]


def one_thread(detector: str) -> Contender:
    """The same on one core, as a worker of a batch job has it."""
    from ferkit._support.parallel import limit_cores

    limit_cores(1)
    module("cv2").setNumThreads(1)
    return ferkit_pictures(detector, threads=1)


def one_by_one(detector: str) -> Contender:
    """As with DeepFace: detector and network are there, each call gets one picture, and each face goes alone."""
    from ferkit.detection.crops import cut_face
    from ferkit.detection.detectors import load_detector
    from ferkit.models.classifier import EmotionClassifier
    from ferkit.sources.images import read_image

    classifier, find = EmotionClassifier.load("default"), load_detector(detector)

    def recognize(path: str) -> Faces:
        image, faces = read_image(path), []
        for face in find(image):
            p = classifier.predict_proba(cut_face(image, face, classifier.face_input)[None])[0]
            faces.append((face.box.to_list(), classifier.classes[int(p.argmax())]))
        return faces

    return lambda paths: [recognize(path) for path in paths]


def fer_pictures() -> Contender:
    """What the README of fer says: `FER()` with all defaults (Haar cascade, LiteRT), one picture after another."""
    cv2, detector = module("cv2"), module("fer.fer").FER()

    def recognize(path: str) -> Faces:
        faces = []
        for face in detector.detect_emotions(cv2.imread(path)):
            x, y, width, height = (int(edge) for edge in face["box"])
            faces.append(([x, y, x + width, y + height], max(face["emotions"], key=face["emotions"].get)))
        return faces

    return lambda paths: [recognize(path) for path in paths]


def ferkit_video(detector: str, annotated: bool = False) -> Contender:
    """What `ferkit video` does."""
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video.analysis import analyze_video
    from ferkit.video.clip import ClipWriter
    from ferkit.video.overlay import Overlay

    recognizer = EmotionRecognizer(detector=detector)

    def seen(frame: Any) -> tuple[float, list[tuple[float, str]]]:
        return frame.time_s, [(face.face.box.x1, face.face.label) for face in frame.faces]

    def analyze(paths: Sequence[str]) -> list[Any]:
        clip, target = paths
        analysis = analyze_video(clip, recognizer)
        if not annotated:
            return [seen(frame) for frame in analysis]
        draw, found = Overlay(recognizer.classes), []
        with ClipWriter(target, rate=analysis.source.rate, sound=analysis.source.sound) as writer:
            for frame in analysis:
                writer.write(draw(frame), frame.time_s)
                found.append(seen(frame))
        return found

    return analyze


def plain_loop() -> Contender:
    """The loop of most tutorials, of ferkit's parts: the Haar cascade on each frame, one face after another."""
    from ferkit.detection.crops import cut_face
    from ferkit.detection.haar import HaarDetector
    from ferkit.models.classifier import EmotionClassifier

    cv2, classifier, detect = module("cv2"), EmotionClassifier.load(), HaarDetector()

    def analyze(paths: Sequence[str]) -> list[Any]:
        video, found = cv2.VideoCapture(paths[0]), list[Any]()
        while (read := video.read())[0]:
            image, faces = read[1][..., ::-1].copy(), []
            for face in detect(image):
                p = classifier.predict_proba(cut_face(image, face, classifier.face_input)[None])[0]
                faces.append((face.box.x1, classifier.classes[int(p.argmax())]))
            found.append((len(found) / 30, faces))
        return found

    return analyze


def fer_video(annotated: bool = False) -> Contender:
    """What the README of fer says of videos, without the folder of single frames that it would write as well."""
    logging.disable(logging.CRITICAL)
    detector, video = module("fer.fer").FER(), module("fer.classes").Video
    # It looks for keys also where no window is open, which the headless OpenCV refuses.
    cv2 = module("cv2")
    cv2.waitKey, cv2.destroyAllWindows = (lambda _: -1), (lambda: None)

    def faces_of(row: dict[str, Any]) -> list[tuple[float, str]]:
        """A column per face and emotion: box0, angry0, ..., box1, ..."""
        faces: list[tuple[float, str]] = []
        while f"box{len(faces)}" in row:
            number = str(len(faces))
            emotions = {name: p for name, p in row.items() if name.endswith(number) and not name.startswith("box")}
            label = max(emotions, key=lambda name: float(emotions[name] or 0))
            faces.append((float(row[f"box{number}"][0]), label.removesuffix(number)))
        return faces

    def analyze(paths: Sequence[str]) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where it writes its table
            found = video(paths[0], outdir=folder).analyze(
                detector, display=False, output="csv", save_frames=False, save_video=annotated,
                annotate_frames=annotated, zip_images=False,
            )  # fmt: skip
        return [(number / 30, faces_of(row)) for number, row in enumerate(found)]

    return analyze


DETECTORS = ("yunet", "haar", "none")
CONTENDERS: dict[str, Callable[[], Contender]] = {
    "fer": fer_pictures,
    "ferkit haar": partial(ferkit_pictures, "haar"),
    "ferkit yunet": partial(ferkit_pictures, "yunet"),
    **{f"one thread, {name}": partial(one_thread, name) for name in DETECTORS},
    **{f"all threads, {name}": partial(ferkit_pictures, name) for name in DETECTORS},
    **{f"one by one, {name}": partial(one_by_one, name) for name in DETECTORS},
    "video: ferkit": partial(ferkit_video, "yunet"),
    "video: ferkit, annotated": partial(ferkit_video, "yunet", annotated=True),
    "video: ferkit haar": partial(ferkit_video, "haar"),
    "video: plain loop": plain_loop,
    "video: fer": fer_video,
    "video: fer, annotated": partial(fer_video, annotated=True),
}


def memory_mb(field: str) -> float:
    """A field of Linux' process status in MB: VmRSS is what is held now, VmHWM the most that was."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def main() -> None:
    contender, cores = sys.argv[1], int(sys.argv[2])
    if cores:
        # Before any import: libraries count the cores they may use when they are loaded.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    # Libraries greet on standard output, which belongs to the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    started = time.perf_counter()
    find = CONTENDERS[contender]()
    load = {"seconds": time.perf_counter() - started, "mb": memory_mb("VmRSS")}
    print(json.dumps(load), file=answers, flush=True)
    for line in sys.stdin:
        paths = json.loads(line)
        started, cpu = time.perf_counter(), time.process_time()
        found = find(paths)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        cost = {"seconds": seconds, "cpu_seconds": cpu, "mb": memory_mb("VmHWM")}
        print(json.dumps({**cost, "found": found}), file=answers, flush=True)


if __name__ == "__main__":
    main()
