"""One contender of `benchmarks/video.py` in a process of its own, for it may need another interpreter.

    python video_worker.py CONTENDER CORES CLIP TARGET

Writes one line of JSON: seconds and seconds of processor for the whole clip, loading left out; frames; faces found per
frame; labels that changed from one frame to the next, per face and second. TARGET is where an annotated clip goes, if the
contender writes one. It needs Linux, for only there can a process be kept to some cores.
"""

import contextlib
import importlib
import itertools
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

# For each frame its time, and the face's x and label of all faces in it.
Seen = list[tuple[float, list[tuple[float, str]]]]
Work = Callable[[], Seen]


def ferkit_with(detector: str, clip: str, target: str | None = None) -> Work:
    """What `ferkit video` does, with an annotated clip where there is a target."""
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.video.analysis import analyze_video
    from ferkit.video.clip import ClipWriter
    from ferkit.video.overlay import Overlay

    recognizer = EmotionRecognizer(detector=detector)

    def work() -> Seen:
        analysis = analyze_video(clip, recognizer)
        if target is None:
            return [_seen(found) for found in analysis]
        draw, seen = Overlay(recognizer.classes), []
        with ClipWriter(target, rate=analysis.source.rate, sound=analysis.source.sound) as writer:
            for found in analysis:
                writer.write(draw(found), found.time_s)
                seen.append(_seen(found))
        return seen

    return work


def _seen(found: Any) -> tuple[float, list[tuple[float, str]]]:
    return found.time_s, [(face.face.box.x1, face.face.label) for face in found.faces]


def plain_loop(clip: str) -> Work:
    """The loop of most tutorials, of ferkit's parts: the Haar cascade on each frame, one face after another."""
    import cv2

    from ferkit.detection.crops import cut_face
    from ferkit.detection.haar import HaarDetector
    from ferkit.models.classifier import EmotionClassifier

    classifier, detect = EmotionClassifier.load(), HaarDetector()

    def work() -> Seen:
        video: Any = cv2.VideoCapture(clip)
        seen: Seen = []
        while (read := video.read())[0]:
            image, faces = read[1][..., ::-1].copy(), []
            for face in detect(image):
                p = classifier.predict_proba(cut_face(image, face, classifier.face_input)[None])[0]
                faces.append((float(face.box.x1), classifier.classes[int(p.argmax())]))
            seen.append((len(seen) / 30, faces))
        return seen

    return work


def fer(clip: str, annotated: bool) -> Work:
    """What the README of fer says of videos, without the folder of single frames that it would write as well."""
    logging.disable(logging.CRITICAL)
    package = importlib.import_module("fer.fer")
    video = importlib.import_module("fer.classes").Video
    detector = package.FER()
    # It looks for keys also where no window is open, which the headless OpenCV refuses.
    cv2: Any = importlib.import_module("cv2")
    cv2.waitKey, cv2.destroyAllWindows = (lambda _: -1), (lambda: None)

    def work() -> Seen:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where it writes its table
            found = video(clip, outdir=folder).analyze(
                detector,
                display=False,
                output="csv",
                save_frames=False,
                save_video=annotated,
                annotate_frames=annotated,
                zip_images=False,
            )
        # A column per face and emotion: box0, angry0, ..., box1, ...
        return [(place / 30, [*_faces_of(row)]) for place, row in enumerate(found)]

    return work


def _faces_of(row: dict[str, Any]) -> list[tuple[float, str]]:
    faces: list[tuple[float, str]] = []
    while f"box{len(faces)}" in row:
        number = str(len(faces))
        emotions = {name: p for name, p in row.items() if name.endswith(number) and not name.startswith("box")}
        label = max(emotions, key=lambda name: float(emotions[name] or 0))
        faces.append((float(row[f"box{number}"][0]), label.removesuffix(number)))
    return faces


def changes_per_second(seen: Seen) -> float:
    """How often the label of a face is another than in the frame before, per face and second; faces go by nearest x."""
    changes = pairs = 0
    for (_, before), (_, after) in itertools.pairwise(seen):
        for x, label in after:
            if before:
                near = min(before, key=lambda face: abs(face[0] - x))
                changes += near[1] != label
                pairs += 1
    return changes / pairs * 30 if pairs else 0.0


def main() -> None:
    contender, cores, clip, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    # Before any import: libraries count the cores they may use when they are loaded.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    # Libraries greet on standard output, which belongs to the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = {
        "ferkit": lambda: ferkit_with("yunet", clip),
        "ferkit, annotated": lambda: ferkit_with("yunet", clip, target),
        "ferkit haar": lambda: ferkit_with("haar", clip),
        "plain loop": lambda: plain_loop(clip),
        "fer": lambda: fer(clip, annotated=False),
        "fer, annotated": lambda: fer(clip, annotated=True),
    }[contender]()
    started, cpu = time.perf_counter(), time.process_time()
    seen = work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    faces = Counter(len(found) for _, found in seen)
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "frames": len(seen),
        "faces": sum(count * times for count, times in faces.items()) / max(len(seen), 1),
        "changes": changes_per_second(seen),
        "bytes": Path(target).stat().st_size if Path(target).exists() else 0,
    }
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
