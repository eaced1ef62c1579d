"""How much accuracy is left when pictures get worse: a model asked again about degraded copies of the same faces."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ferkit import metrics, report_tables
from ferkit.audit.degradations import DEGRADATIONS, Degradation
from ferkit.datasets.records import Faces, FaceSet
from ferkit.errors import UsageError
from ferkit.evaluation import Classifier, matched
from ferkit.wording import count

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
        """The section of the report page, see `ferkit.evaluation.Addition`."""
        from ferkit.audit.robustness_page import section_of

        return section_of(self, figures)

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
    faces, ask = matched(classifier, faces, tta)
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


def _level(probabilities: npt.NDArray[np.float32], labels: metrics.Labels, strength: float) -> tuple[Level, Hits]:
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
