"""What the world does to pictures of faces: blur, noise, compression, few pixels, light, tilt, things in front of faces.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations":
each in a few fixed strengths. A degradation is one decorated function; the command line, the docs table and the tests
find it in `DEGRADATIONS`.

How much accuracy is left when pictures get worse: a model asked again about degraded copies of the same faces.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ferkit._support.registry import Registry, describe
from ferkit.data import Faces, FaceSet
from ferkit.errors import UsageError, count
from ferkit.evaluation import metrics
from ferkit.evaluation import report as report_tables
from ferkit.models import Classifier, Labels, augmented, matched

Face = npt.NDArray[np.uint8]

# Lengths are in pixels of a face of 48x48, FER-2013's, and scaled to other sizes.
_OF = 48
# Where eyes and mouth are in faces cut as FER-2013's, as a share of the height from the top.
_EYES, _MOUTH = 0.375, 0.77


class Degrade(Protocol):
    def __call__(self, faces: Faces, strength: float, rng: np.random.Generator, /) -> Faces: ...


@dataclass(frozen=True)
class Degradation:
    """One way in which pictures get worse.

    apply: uint8 (N, height, width, channels), one of `strengths`, and a generator for what is random -> new faces of
        the same shape and type. unit: what strengths are. strengths: mildest first, but of those that go both ways.
    clean: the strength that leaves a face as it is.
    """

    apply: Degrade
    unit: str
    strengths: tuple[float, ...]
    clean: float

    @property
    def text(self) -> str:
        """What it does, in a line."""
        return describe(self.apply)


DEGRADATIONS: Registry[Degradation] = Registry("degradation")


def degradation(
    name: str, *, unit: str, strengths: tuple[float, ...], clean: float = 0.0
) -> Callable[[Degrade], Degrade]:
    """Register a function as a `Degradation`."""

    def keep(apply: Degrade) -> Degrade:
        DEGRADATIONS.register(name)(Degradation(apply, unit, strengths, clean))
        return apply

    return keep


@degradation("blur", unit="sigma in pixels of 48", strengths=(0.5, 1, 1.5, 2, 3))
def blur(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Gaussian blur, as of a face out of focus"""
    sigma = strength * faces.shape[1] / _OF
    return _each(faces, lambda face: cv2.GaussianBlur(face, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


@degradation("noise", unit="standard deviation of 255", strengths=(5, 10, 20, 30, 40))
def noise(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """Gaussian noise on every pixel and channel, as of a dim room"""
    drawn = rng.standard_normal(faces.shape, np.float32)
    return _clipped(faces + strength * drawn)


@degradation("jpeg", unit="quality", strengths=(60, 40, 20, 10, 5), clean=100)
def jpeg(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """JPEG, of the face as it is cut out"""

    def packed(face: Face) -> Face:
        # OpenCV takes and gives BGR, and to swap twice changes nothing but which colour is packed worse.
        colour = face if face.shape[2] == 1 else face[:, :, ::-1]
        _, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
        unpacked = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8).reshape(face.shape)
        return unpacked if face.shape[2] == 1 else unpacked[:, :, ::-1]

    return _each(faces, packed)


@degradation("resolution", unit="pixels along each side", strengths=(36, 24, 18, 15, 12), clean=_OF)
def resolution(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Faces of so few pixels, enlarged again, as of people far away"""
    height, width = faces.shape[1:3]
    small = (min(width, round(strength)), min(height, round(strength)))

    def enlarged(face: Face) -> Face:
        few = cv2.resize(face, small, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    return _each(faces, enlarged)


@degradation("brightness", unit="added, of 255", strengths=(-120, -60, 60, 120))
def brightness(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """The same added to every pixel, cut off at black and white"""
    return _clipped(faces + np.float32(strength))


@degradation("contrast", unit="share that is left", strengths=(0.7, 0.5, 0.3, 0.2, 0.1), clean=1)
def contrast(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """Less contrast about the face's mean, as in fog"""
    mean = faces.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return _clipped(mean + strength * (faces - mean))


@degradation("rotation", unit="degrees", strengths=(10, 20, 30, 45, 60))
def rotation(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """Tilted heads, half of them to either side"""
    height, width = faces.shape[1:3]
    middle = ((width - 1) / 2, (height - 1) / 2)
    signs = iter(rng.choice((-1, 1), len(faces)))

    def tilted(face: Face) -> Face:
        matrix = cv2.getRotationMatrix2D(middle, strength * int(next(signs)), 1.0)
        return np.asarray(cv2.warpAffine(face, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return _each(faces, tilted)


@degradation("eyes", unit="height of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def eyes(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """A black bar over the eyes, as of dark glasses"""
    return _barred(faces, _EYES, strength)


@degradation("mouth", unit="height of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def mouth(faces: Faces, strength: float, _: np.random.Generator) -> Faces:
    """A black bar over the mouth, as of a mask or a hand"""
    return _barred(faces, _MOUTH, strength)


@degradation("bar", unit="width of the bar, of 48", strengths=(4, 8, 12, 16, 20))
def bar(faces: Faces, strength: float, rng: np.random.Generator) -> Faces:
    """A black bar anywhere, half of them lying, half standing"""
    lying, places = rng.random(len(faces)) < 0.5, rng.random(len(faces))
    barred = faces.copy()
    for face, lies, place in zip(barred, lying, places, strict=True):
        side = face.shape[0 if lies else 1]
        thick = max(1, round(strength * side / _OF))
        start = round(place * (side - thick))
        face[(slice(start, start + thick), slice(None))[:: 1 if lies else -1]] = 0
    return barred


def _barred(faces: Faces, centre: float, strength: float) -> Faces:
    height = faces.shape[1]
    start = round(height * (centre - strength / (2 * _OF)))
    barred = faces.copy()
    barred[:, max(0, start) : start + max(1, round(strength * height / _OF))] = 0
    return barred


def _each(faces: Faces, change: Callable[[Face], npt.NDArray[np.generic]]) -> Faces:
    changed = np.empty_like(faces)
    for face, target in zip(faces, changed, strict=True):
        target[:] = change(face).reshape(target.shape)
    return changed


def _clipped(values: npt.NDArray[np.float32]) -> Faces:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


# Faces in memory at once, copy included. What is drawn for noise depends on it, so it is the same everywhere.
_FACES = 512
_RESAMPLES = 1000
# Resamples whose counts are in memory at once.
_COUNTS = 100

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """The figures at one strength of one degradation. Shares are fractions, 0 to 1.

    accuracy_ci95: 95 % Wilson interval. mean_confidence: of the most probable class. ece: over 15 bins.
    """

    strength: float
    accuracy: float
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    mean_confidence: float
    ece: float


@dataclass(frozen=True, eq=False)
class Robustness:
    """What is left of a model's accuracy on degraded faces.

    clean: on the faces as they are; its strength means nothing.
    levels: by name of the degradation, one per strength, in the order of `DEGRADATIONS`.
    relative_accuracy: the mean over degradations, each the mean over its strengths, divided by the clean accuracy: 1 is a
        model that nothing harms. As in Hendrycks and Dietterich 2019 every degradation counts the same; they divide by
        the errors of an older network, here it is the model's own accuracy.
    relative_accuracy_ci95: its 95 % interval over other faces like these, by bootstrap (basic; Davison and Hinkley 1997).
    """

    model: str
    split: str
    n: int
    clean: Level
    levels: dict[str, tuple[Level, ...]]
    relative_accuracy: float
    relative_accuracy_ci95: tuple[float, float]
    tta: str | None = None
    key: str = field(default="robustness", init=False)

    @property
    def mean_accuracy(self) -> float:
        """Mean over degradations of the accuracy, each the mean over its strengths."""
        return float(np.mean([self.mean_of(name) for name in self.levels]))

    def mean_of(self, name: str) -> float:
        """Accuracy under one degradation, the mean over its strengths."""
        return float(np.mean([level.accuracy for level in self.levels[name]]))

    def to_dict(self) -> dict[str, Any]:
        """What stands under `robustness` in the JSON document of `ferkit evaluate --robustness --json`."""

        def figures(level: Level) -> dict[str, Any]:
            return {**asdict(level), "accuracy_ci95": list(level.accuracy_ci95)}

        clean = figures(self.clean)
        del clean["strength"]
        return {
            "n": self.n,
            "clean": clean,
            "mean_accuracy": self.mean_accuracy,
            "relative_accuracy": self.relative_accuracy,
            "relative_accuracy_ci95": list(self.relative_accuracy_ci95),
            "degradations": {
                name: {
                    "unit": DEGRADATIONS[name].unit,
                    "mean_accuracy": self.mean_of(name),
                    "levels": [figures(level) for level in levels],
                }
                for name, levels in self.levels.items()
            },
        }

    def section(self, figures: Path) -> str:
        """The section of the report page, see `ferkit.evaluation.report.Addition`."""
        from ferkit.evaluation.sections import robustness_section

        return robustness_section(self, figures)

    def __str__(self) -> str:
        return report_tables.as_text(self)

    def __rich__(self) -> Group:
        low, high = self.relative_accuracy_ci95
        title = f"Robustness of {self.model} on {self.split}: {count(self.n, 'face')}, {self.clean.accuracy:.1%} right as they are"
        said = (
            f"{self.mean_accuracy:.1%} right on the mean of all degradations: {self.relative_accuracy:.1%} of the clean "
            f"accuracy is left (95% interval {low:.1%} to {high:.1%})"
        )
        how = "Share of right answers at each strength, and the strength below it; mean: over its strengths."
        return Group(Text(title, style="bold"), "", Text(how, style="dim"), _table(self), "", Text(said))


def measure_robustness(
    classifier: Classifier,
    faces: FaceSet,
    *,
    tta: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Ask a classifier about faces as they are, and about copies degraded in every way and strength of `DEGRADATIONS`.

    tta: as in `ferkit.evaluate`. limit: look at so many faces only, drawn at random. seed: of that draw and of what is
    random in degradations: the same seed, the same copies. progress: called with how many faces were answered, and of
    how many.
    Raises what `ferkit.evaluate` does, and `UsageError` for a limit below 1.

        classifier = ferkit.EmotionClassifier.load("my_model")
        print(measure_robustness(classifier, dataset.test, limit=500))
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1 face. Received: {limit}.")
    faces, ask = matched(augmented(classifier, tta), faces)
    if limit is not None and limit < len(faces):
        faces = faces.select(np.sort(np.random.default_rng(seed).permutation(len(faces))[:limit]))
    total = len(faces) * (1 + sum(len(one.strengths) for one in DEGRADATIONS.values()))
    done = 0

    def measured(copies: Iterator[Faces], strength: float) -> tuple[Level, Hits]:
        nonlocal done
        answers = []
        for copy in copies:
            answers.append(ask(copy))
            done += len(copy)
            if progress is not None:
                progress(done, total)
        return _level(np.concatenate(answers), faces.labels, strength)

    clean, clean_hits = measured(_parts(faces.images), 0.0)
    levels: dict[str, tuple[Level, ...]] = {}
    hits: list[list[Hits]] = []
    for number, (name, degradation) in enumerate(DEGRADATIONS.items()):
        found = [
            measured(_degraded(faces.images, degradation, strength, (seed, number, place)), strength)
            for place, strength in enumerate(degradation.strengths)
        ]
        levels[name] = tuple(level for level, _ in found)
        hits.append([one for _, one in found])
    relative, interval = _relative(clean_hits, hits, seed)
    return Robustness(classifier.name, faces.name, len(faces), clean, levels, relative, interval, tta)


def _parts(images: Faces) -> Iterator[Faces]:
    for start in range(0, len(images), _FACES):
        yield images[start : start + _FACES]


def _degraded(images: Faces, degradation: Degradation, strength: float, seed: tuple[int, ...]) -> Iterator[Faces]:
    rng = np.random.default_rng(seed)
    for part in _parts(images):
        yield degradation.apply(part, strength, rng)


def _level(probabilities: npt.NDArray[np.float32], labels: Labels, strength: float) -> tuple[Level, Hits]:
    hits = probabilities.argmax(axis=1) == labels
    right, n = int(hits.sum()), len(labels)
    level = Level(
        strength=strength,
        accuracy=right / n,
        accuracy_ci95=metrics.wilson_interval(right, n),
        macro_f1=metrics.macro_f1(metrics.confusion_matrix(probabilities, labels)),
        mean_confidence=float(probabilities.max(axis=1).mean()),
        ece=metrics.ece(probabilities, labels),
    )
    return level, hits


def _relative(clean: Hits, hits: list[list[Hits]], seed: int) -> tuple[float, tuple[float, float]]:
    """The relative accuracy and its interval. Faces are drawn anew whole, with the answers to all of their copies."""
    # What each face adds to the mean over degradations.
    scores = np.mean([np.mean(levels, axis=0) for levels in hits], axis=0)
    if not clean.any():
        return 0.0, (0.0, 0.0)
    relative = float(scores.sum() / clean.sum())
    rng = np.random.default_rng(seed)
    n, ratios = len(clean), []
    for _ in range(_RESAMPLES // _COUNTS):
        counts = rng.multinomial(n, np.full(n, 1 / n), _COUNTS)
        ratios.append(counts @ scores / np.maximum(counts @ clean, 1))
    low, high = np.quantile(np.concatenate(ratios), (0.025, 0.975))
    return relative, (max(0.0, float(2 * relative - high)), max(0.0, float(2 * relative - low)))


def _table(found: Robustness) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("degradation", no_wrap=True)
    table.add_column("mean", justify="right")
    widest = max(len(levels) for levels in found.levels.values())
    for number in range(1, widest + 1):
        table.add_column(str(number), justify="right")
    for name, levels in found.levels.items():
        cells = [Text(f"{level.accuracy:.1%}\n").append(f"{level.strength:g}", "dim") for level in levels]
        words = Text(f"{name}\n").append(DEGRADATIONS[name].unit, "dim")
        table.add_row(words, Text(f"{found.mean_of(name):.1%}", "bold"), *cells)
    return table
