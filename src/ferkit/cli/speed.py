"""Quick speed measurements for lists: the median of a few runs after a warm-up. `benchmarks/` has the published ones."""

import statistics
import time
from collections.abc import Callable

import numpy as np

from ferkit.detection import FaceDetector
from ferkit.models import EmotionClassifier

BATCH = 64

_SECONDS = 0.3  # enough for the runs of one figure


def detection_seconds(detect: FaceDetector) -> float:
    """Seconds for the sample portrait, 512x512 with one face."""
    from ferkit.models import sample_picture
    from ferkit.sources import read_image

    image = read_image(sample_picture())
    return _median(lambda: detect(image), runs=5)


def classification_seconds(classifier: EmotionClassifier) -> tuple[float, float]:
    """Seconds per face: one alone, and in batches of `BATCH`. What is on the face makes no difference."""
    takes = classifier.face_input
    faces = np.zeros((BATCH, takes.height, takes.width, takes.channels), np.uint8)
    alone = _median(lambda: classifier.predict_proba(faces[:1]), runs=15)
    return alone, _median(lambda: classifier.predict_proba(faces), runs=5) / BATCH


def _median(work: Callable[[], object], runs: int) -> float:
    work()
    taken: list[float] = []
    while len(taken) < runs and sum(taken) < _SECONDS:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
