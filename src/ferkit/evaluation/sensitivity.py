"""What a model's sensitivity trades: accuracy against macro recall, and where their mean is highest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ferkit.errors import count
from ferkit.evaluation import metrics
from ferkit.labels import canonical
from ferkit.models import Labels, Probabilities, adjust, apply_temperature, fit_temperature
from ferkit.render import DataTable, Document, Printed, Section, Text, number, percent

if TYPE_CHECKING:
    from ferkit.data import FaceSet
    from ferkit.evaluation.report import Report
    from ferkit.models import Classifier

# Where a curve is measured.
SENSITIVITIES = tuple(round(0.05 * step, 2) for step in range(21))
# Every other point is shown; the JSON document has all of them.
_SHOWN = SENSITIVITIES[::2]


@dataclass(frozen=True)
class Point:
    """How good answers are at one sensitivity. ece and nll are those after `temperature`, which fits the same faces."""

    sensitivity: float
    accuracy: float
    macro_recall: float
    ece: float
    nll: float
    temperature: float

    @property
    def mean(self) -> float:
        """The mean of accuracy and macro recall, by which the default is chosen."""
        return (self.accuracy + self.macro_recall) / 2

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def curve(
    probabilities: Probabilities,
    labels: Labels,
    prior: npt.ArrayLike,
    sensitivities: Sequence[float] = SENSITIVITIES,
) -> list[Point]:
    """Accuracy, macro recall and calibration at each sensitivity.

    probabilities: float (N, K), at sensitivity 0 and before any temperature. labels: int (N,), what is right.
    """
    points = []
    for sensitivity in sensitivities:
        adjusted = adjust(probabilities, prior, sensitivity)
        temperature = fit_temperature(adjusted, labels)
        calibrated = apply_temperature(adjusted, temperature)
        points.append(
            Point(
                sensitivity=sensitivity,
                accuracy=metrics.accuracy(adjusted, labels),
                macro_recall=metrics.balanced_accuracy(metrics.confusion_matrix(adjusted, labels)),
                ece=metrics.ece(calibrated, labels),
                nll=metrics.nll(calibrated, labels),
                temperature=temperature,
            )
        )
    return points


def best(points: Sequence[Point]) -> Point:
    """The point with the highest mean of accuracy and macro recall; of equal ones the least sensitive."""
    return max(points, key=lambda point: (round(point.mean, 12), -point.sensitivity))


def prior_of(faces: "FaceSet") -> list[float] | None:
    """The share of each class among the votes on training faces; None where a class has none, or nobody voted."""
    if faces.votes is None:
        return None
    votes = faces.votes if faces.voted is None else faces.votes[faces.voted]
    shares = votes.mean(axis=0, dtype=np.float64) if len(votes) else np.zeros(1)
    return [round(float(share), 5) for share in shares] if shares.min() > 1e-5 else None


@dataclass(frozen=True)
class SensitivityCurve(Printed):
    """Accuracy, macro recall and calibration of one model against the FER+ majority label.

    n: faces with a majority label. used: the sensitivity that the model answered with.
    """

    n: int
    used: float
    points: Sequence[Point]

    key: str = field(default="sensitivity", init=False)

    @property
    def best(self) -> Point:
        """The point with the highest mean of accuracy and macro recall."""
        return best(self.points)

    def to_dict(self) -> dict[str, Any]:
        return {
            "truth": "votes",
            "n": self.n,
            "used": self.used,
            "best": self.best.sensitivity,
            "points": [point.to_dict() for point in self.points],
        }

    def section(self) -> Section:
        """The curve as a table."""
        return Section("Sensitivity", (Text(self._sentence()), self._table()), key=self.key, data=self.to_dict())

    def document(self) -> Document:
        return Document("Sensitivity", count(self.n, "face"), (self.section(),))

    def _sentence(self) -> str:
        return (
            f"{count(self.n, 'face')} with a FER+ majority label. 0 expects each class as often as in training, 1 all "
            f"classes equally often; a temperature is fitted for each. Evaluated with {self.used:g}. The mean of accuracy and macro "
            f"recall is highest at {self.best.sensitivity:g}."
        )

    def _table(self) -> DataTable:
        rows = tuple(
            (
                f"{point.sensitivity:g}",
                percent(point.accuracy),
                percent(point.macro_recall),
                number(point.ece),
                number(point.nll),
            )
            for point in self.points
            if point.sensitivity in _SHOWN
        )
        return DataTable(("Sensitivity", "Accuracy", "Macro recall", "ECE", "Log loss"), rows)


def sensitivity_curve(classifier: "Classifier", report: "Report") -> SensitivityCurve | None:
    """The curve of a model on the faces of a report; None where the model has no sensitivity or the faces have no votes.

    Answers over several views are no longer those of one sensitivity, so with test-time augmentation there is none
    either.
    """
    used, card = getattr(classifier, "sensitivity", None), getattr(classifier, "card", {})
    faces = report.faces
    known = [canonical(name) for name in classifier.classes]
    names = [canonical(name) for name in faces.classes]
    if used is None or faces.votes is None or report.tta is not None or sorted(known) != sorted(names):
        return None
    chosen = faces.has_first_choice
    if not chosen.any():
        return None
    prior = [card["prior"][known.index(name)] for name in names]
    # Taken back: first the temperature, then the adjustment before it.
    temperature = getattr(classifier, "temperature", 1.0) * card.get("temperature_inside", 1.0)
    plain = adjust(apply_temperature(report.probabilities[chosen], 1 / temperature), prior, -used)
    labels = faces.votes[chosen].argmax(axis=1)
    return SensitivityCurve(int(chosen.sum()), used, curve(plain, labels, prior))
