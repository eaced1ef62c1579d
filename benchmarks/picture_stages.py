"""Where the time of ferkit goes between a file and its emotions; run by `end_to_end.py --stages`.

ferkit's own functions are timed one after another, without the threads that overlap them, so that the shares are of
work. Three kinds of pictures: the scenes, the scenes enlarged to 12 megapixels as phones take them, and, if a data set
is given, faces of FER-2013 as files, which need no detector.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit.data.loading import load_dataset
from ferkit.detection.crops import cut_face
from ferkit.detection.detectors import load_detector
from ferkit.models.classifier import EmotionClassifier
from ferkit.render.drawing import annotate
from ferkit.render.sinks import SINKS, AnnotatedPictures
from ferkit.results import Face, FaceEmotion, PictureResult
from ferkit.sources.images import RgbImage, read_image

# Shares are of these; annotated pictures are made only on request, and come on top.
ALWAYS = ("decode", "detect", "crop", "classify", "csv")
ANNOTATED = ("draw", "encode")
BATCH = 64
MEGAPIXELS = 12e6
FACES = 5000
# Of many pictures only the first are drawn: each is written safely to the disk, which takes its time.
DRAWN = 500


class Watch:
    """Seconds of processor by stage: what else runs on the machine hardly changes them."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*ALWAYS, *ANNOTATED), 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.seconds[name] += time.process_time() - started


def one_pass(pictures: Sequence[Path], find: Any, classifier: EmotionClassifier, folder: Path) -> dict[str, float]:
    """Seconds of processor in each stage, for all pictures."""
    watch = Watch()
    waiting: list[tuple[Path, RgbImage, list[Face], list[npt.NDArray[np.uint8]]]] = []
    with ExitStack() as opened:
        with watch.stage("csv"):
            table = opened.enter_context(SINKS["csv"](folder / "faces.csv", classifier.classes))
        drawn = set(map(str, pictures[:DRAWN]))
        annotated = opened.enter_context(AnnotatedPictures(folder / "annotated", classifier.classes))

        def finish() -> None:
            cut = [crop for *_, crops in waiting for crop in crops]
            with watch.stage("classify"):
                rows = iter(classifier.predict_proba(np.stack(cut)) if cut else ())
                results = [
                    PictureResult(
                        str(path),
                        image.shape[1],
                        image.shape[0],
                        tuple(FaceEmotion.from_probabilities(face, classifier.classes, next(rows)) for face in faces),
                        pixels=image,
                    )
                    for path, image, faces, _ in waiting
                ]
            for result, (_, image, _, _) in zip(results, waiting, strict=True):
                with watch.stage("csv"):
                    table.write(result)
                if result.source not in drawn:
                    continue
                with watch.stage("draw"):
                    annotate(image, result)
                with watch.stage("encode"):  # draws once more, which is taken off below
                    annotated.write(result)
            waiting.clear()

        for path in pictures:
            with watch.stage("decode"):
                image = read_image(path)
            with watch.stage("detect"):
                faces = find(image)
            with watch.stage("crop"):
                crops = [cut_face(image, face, classifier.face_input) for face in faces]
            waiting.append((path, image, faces, crops))
            if sum(len(faces) for _, _, faces, _ in waiting) >= BATCH or sum(i.nbytes for _, i, _, _ in waiting) > 1e8:
                finish()
        finish()
        with watch.stage("csv"):
            opened.close()
    watch.seconds["encode"] -= watch.seconds["draw"]
    return watch.seconds


def report(title: str, pictures: Sequence[Path], detectors: Sequence[str], rounds: int) -> None:
    """Print a table: milliseconds of processor a picture in each stage, and its share; medians of the rounds, detectors in turns."""
    classifier = EmotionClassifier.load()
    find = {name: load_detector(name) for name in detectors}
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in detectors}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name in detectors:
                seconds = one_pass(pictures, find[name], classifier, Path(folder))
                if number:  # the first pass warms up
                    passes[name].append(seconds)
    print(f"\n{title}: {len(pictures)} pictures, ms of processor a picture (share)")
    print(f"{'':6}" + "".join(f"{stage:>16}" for stage in ALWAYS) + f"{'sum':>10}  annotated: draw, encode")
    for name in detectors:
        cost = {
            stage: statistics.median(one[stage] for one in passes[name]) / count * 1000
            for stages, count in ((ALWAYS, len(pictures)), (ANNOTATED, min(len(pictures), DRAWN)))
            for stage in stages
        }
        total = sum(cost[stage] for stage in ALWAYS)
        cells = "".join(f"{cost[stage]:8.2f} ({cost[stage] / total:4.0%})" for stage in ALWAYS)
        print(f"{name:6}{cells}{total:10.2f}  {cost['draw']:17.2f}{cost['encode']:8.2f}", flush=True)


def enlarged(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """Write pictures anew as JPEG of 12 megapixels, aspect kept; at 4:3 that is 4000x3000."""
    written = []
    for path in pictures:
        image = read_image(path)
        scale = (MEGAPIXELS / (image.shape[0] * image.shape[1])) ** 0.5
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        written.append(folder / f"{path.stem}.jpg")
        PIL.Image.fromarray(np.asarray(large, np.uint8)).save(written[-1], quality=92)
    return written


def faces_as_files(data: str, folder: Path) -> list[Path]:
    """Write the first 5,000 training faces of a data set as PNG."""
    written = []
    for number, face in enumerate(load_dataset(data).train.images[:FACES]):
        written.append(folder / f"{number:05d}.png")
        PIL.Image.fromarray(face.squeeze()).save(written[-1])
    return written


def report_stages(scenes: Sequence[Path], data: str | None, rounds: int) -> None:
    """Print the tables of all kinds of pictures.

    scenes: still pictures. data: a data set that ferkit reads, or None. rounds: timed passes.
    """
    both = ("yunet", "haar")
    kinds: list[tuple[str, Sequence[str], Callable[[Path], Sequence[Path]]]] = [
        ("scenes", both, lambda _: scenes),
        ("scenes of 12 megapixels", both, lambda folder: enlarged(scenes, folder)),
    ]
    if data is not None:
        kinds.append(("faces of FER-2013 as PNG", ("none",), lambda folder: faces_as_files(data, folder)))
    print(f"one stage after another, {cv2.getNumThreads()} OpenCV threads, {rounds} rounds")
    for title, detectors, make in kinds:
        with tempfile.TemporaryDirectory() as folder:
            report(title, make(Path(folder)), detectors, rounds)
