"""Robustness to image corruption: how much accuracy is left on corrupted copies of the same faces."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data import Faces, FaceSet
from ferkit.errors import UsageError, count
from ferkit.evaluation import metrics
from ferkit.evaluation.corruptions import CORRUPTIONS, Corruption
from ferkit.models import Classifier, Labels, augmented, matched
from ferkit.render import (
    LIGHT,
    Beside,
    Cell,
    DataTable,
    Document,
    Figure,
    Printed,
    Section,
    Text,
    Theme,
    interval,
    percent,
)

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
class Robustness(Printed):
    """What is left of a model's accuracy on degraded faces.

    clean: on the faces as they are; its strength means nothing.
    levels: by name of the degradation, one per strength, in the order of `CORRUPTIONS`.
    relative_accuracy: the mean over corruptions, each the mean over its strengths, divided by the clean accuracy: 1 is
        a model that nothing harms. As in Hendrycks and Dietterich 2019 every degradation counts the same; they divide
        by the errors of an older network, here it is the model's own accuracy.
    relative_accuracy_ci95: its 95 % interval over other faces like these, by bootstrap (basic; Davison and Hinkley
    1997).
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
                    "unit": CORRUPTIONS[name].unit,
                    "mean_accuracy": self.mean_of(name),
                    "levels": [figures(level) for level in levels],
                }
                for name, levels in self.levels.items()
            },
        }

    def section(self) -> Section:
        """What is left, as a plot and a table of every corruption."""
        alt = "Accuracy and confidence against the strength of each corruption; the table has the same numbers."
        figure = Figure("robustness", lambda path, theme: plot([self], path, theme=theme), alt)
        blocks = (Text(_sentence(self)), Beside((figure,), (_table(self),), even=True))
        return Section("Robustness to image corruption", blocks, wide=True, key=self.key, data=self.to_dict())

    def document(self) -> Document:
        return Document(f"{self.model} on {self.split}", count(self.n, "face"), (self.section(),))


def measure_robustness(
    classifier: Classifier,
    faces: FaceSet,
    *,
    tta: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Ask a classifier about faces as they are, and about copies degraded in every way and strength of `CORRUPTIONS`.

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
    total = len(faces) * (1 + sum(len(one.strengths) for one in CORRUPTIONS.values()))
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
    for number, (name, corruption) in enumerate(CORRUPTIONS.items()):
        found = [
            measured(_corrupted(faces.images, corruption, strength, (seed, number, place)), strength)
            for place, strength in enumerate(corruption.strengths)
        ]
        levels[name] = tuple(level for level, _ in found)
        hits.append([one for _, one in found])
    relative, interval = _relative(clean_hits, hits, seed)
    return Robustness(classifier.name, faces.name, len(faces), clean, levels, relative, interval, tta)


def _parts(images: Faces) -> Iterator[Faces]:
    for start in range(0, len(images), _FACES):
        yield images[start : start + _FACES]


def _corrupted(images: Faces, corruption: Corruption, strength: float, seed: tuple[int, ...]) -> Iterator[Faces]:
    rng = np.random.default_rng(seed)
    for part in _parts(images):
        yield corruption.apply(part, strength, rng)


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
    n, ratios = len(clean), []
    for counts in metrics.resampled_counts(n, np.full(n, 1 / n), _RESAMPLES, at_once=_COUNTS, seed=seed):
        ratios.append(counts @ scores / np.maximum(counts @ clean, 1))
    low, high = np.quantile(np.concatenate(ratios), (0.025, 0.975))
    return relative, (max(0.0, float(2 * relative - high)), max(0.0, float(2 * relative - low)))


def _sentence(found: Robustness) -> str:
    worst = sorted(found.levels, key=found.mean_of)[:3]
    return (
        f"The same {count(found.n, 'face')}, corrupted: mean accuracy over all corruptions is {percent(found.mean_accuracy)}, "
        f"{percent(found.clean.accuracy)} on the clean faces. Relative accuracy (corrupted / clean): "
        f"{percent(found.relative_accuracy)} (95% interval {interval(found.relative_accuracy_ci95)}; after Hendrycks and Dietterich 2019). Lowest accuracy: "
        f"{', '.join(f'{name} ({percent(found.mean_of(name), 0)})' for name in worst)}. Where confidence stays above the "
        "accuracy, the model is overconfident on corrupted images. Below each accuracy is the strength; the mean is over "
        "strengths."
    )


def _table(found: Robustness) -> DataTable:
    widest = max(len(levels) for levels in found.levels.values())
    rows = []
    for name, levels in found.levels.items():
        cells = [Cell(percent(one.accuracy, 0), f"{one.strength:g}") for one in levels]
        cells += [Cell("")] * (widest - len(levels))
        mean = Cell(percent(found.mean_of(name)), strong=True)
        rows.append((Cell(name, CORRUPTIONS[name].unit), mean, *cells))
    return DataTable(("Corruption", "Mean", *(str(one) for one in range(1, widest + 1))), tuple(rows))


def plot(found: Sequence[Robustness], path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy of one or several models, at most four, against the strength of each corruption."""
    # Plots bring Matplotlib, which measuring does without.
    from ferkit.evaluation import comparison_figures as plots

    panels = []
    for name, corruption in CORRUPTIONS.items():
        # The clean face is where its strength belongs: in the middle of those that go both ways.
        strengths = corruption.strengths
        place = sum(one < corruption.clean for one in strengths) if min(strengths) < 0 else 0
        ticks = [f"{one:g}" for one in strengths]
        ticks.insert(place, "clean")
        panels.append(plots.Panel(name, corruption.unit, ticks, {one.model: _line(one, name, place) for one in found}))
    plots.corruptions(panels, path, theme=theme)


def _line(found: Robustness, name: str, place: int) -> tuple[list[float], list[float], list[float], list[float]]:
    levels: list[Level] = [*found.levels[name]]
    levels.insert(place, found.clean)
    return (
        [one.accuracy for one in levels],
        [one.accuracy_ci95[0] for one in levels],
        [one.accuracy_ci95[1] for one in levels],
        [one.mean_confidence for one in levels],
    )
