"""One contender of `benchmarks/batch.py`, warm and in a process of its own.

    python batch_contender.py CONTENDER DETECTOR

Reads lines of JSON from standard input, each a list of paths, and answers with the seconds that these pictures took.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence

import cv2

from ferkit._support.parallel import limit_cores
from ferkit.detection.crops import cut_face
from ferkit.detection.detectors import DETECTORS
from ferkit.models.classifier import EmotionClassifier
from ferkit.recognizer import EmotionRecognizer
from ferkit.sources.images import read_image

Contender = Callable[[Sequence[str]], int]


def one_thread(detector: str) -> Contender:
    """The plain loop, on one core as a worker of a batch job has it."""
    limit_cores(1)
    cv2.setNumThreads(1)
    recognizer = EmotionRecognizer(EmotionClassifier.load("default", threads=1), detector, threads=1)
    return lambda paths: sum(len(result) for result in recognizer.stream(list(paths)))


def all_threads(detector: str) -> Contender:
    """The plain loop as everybody would write it."""
    recognizer = EmotionRecognizer(detector=detector)
    return lambda paths: sum(len(result) for result in recognizer.stream(list(paths)))


def one_by_one(detector: str) -> Contender:
    """As with DeepFace: detector and network are there, each call gets one picture, and each face goes alone."""
    classifier, find = EmotionClassifier.load("default"), DETECTORS[detector]()

    def recognize(paths: Sequence[str]) -> int:
        count = 0
        for path in paths:
            image = read_image(path)
            for face in find(image):
                classifier.predict_proba(cut_face(image, face, classifier.face_input)[None])
                count += 1
        return count

    return recognize


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "one thread": one_thread,
    "all threads": all_threads,
    "one by one": one_by_one,
}


def main() -> None:
    contender, detector = sys.argv[1:]
    # Libraries greet on standard output, which belongs to the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    recognize = CONTENDERS[contender](detector)
    for line in sys.stdin:
        paths = json.loads(line)
        started = time.perf_counter()
        faces = recognize(paths)
        answers.write(json.dumps({"seconds": time.perf_counter() - started, "faces": faces}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
