"""Two models on the same faces: which is better, how certain that is, and where they differ.

What two accuracies with an interval each cannot say: the models see the same faces, so only those count that one of
them got right and the other did not, and a difference shows far earlier than two separate intervals suggest.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.data import FaceSet
from ferkit.errors import DatasetError, ModelError, count
from ferkit.evaluation.faces import Data, Progress, check_options, faces_for
from ferkit.evaluation.metrics import counted
from ferkit.evaluation.paired_statistics import (
    cohen_kappa,
    holm,
    macro_f1_interval,
    mcnemar_exact,
    mcnemar_midp,
    paired_interval,
)
from ferkit.evaluation.report import Report, evaluate, measure
from ferkit.labels import canonical
from ferkit.models import Classifier, check_unseen, open_classifiers
from ferkit.render import Document, Printed, p_equals, point_interval, points

_log = logging.getLogger(__name__)

ALPHA = 0.05
# With fewer a bootstrap draws the same few faces again and again, and leaves 0 out where nothing is proved.
_FEWEST_DECIDING = 10


@dataclass(frozen=True)
class Pair:
    """How often each of two models is right on the same faces. Differences are the second's less the first's."""

    n: int
    both: int
    only_a: int
    only_b: int

    @property
    def neither(self) -> int:
        return self.n - self.both - self.only_a - self.only_b

    @property
    def accuracies(self) -> tuple[float, float]:
        return (self.both + self.only_a) / self.n, (self.both + self.only_b) / self.n

    @property
    def difference(self) -> float:
        return (self.only_b - self.only_a) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference (Tango 1998)."""
        return paired_interval(self.only_a, self.only_b, self.n)

    @property
    def p(self) -> float:
        """McNemar's test, mid-p (Fagerland et al. 2013)."""
        return mcnemar_midp(self.only_a, self.only_b)

    @property
    def p_exact(self) -> float:
        return mcnemar_exact(self.only_a, self.only_b)

    def differs(self, p: float | None = None) -> bool:
        """Whether one is better: p is below 0.05 and the interval leaves 0 out, which by a hair may part ways.

        p: in place of its own, such as one that is corrected for several tests.
        """
        return (self.p if p is None else p) < ALPHA and self._interval_without_0

    @property
    def nearly_differs(self) -> bool:
        """Whether only one of the two, p and interval, says so."""
        return (self.p < ALPHA) != self._interval_without_0

    @property
    def _interval_without_0(self) -> bool:
        low, high = self.interval
        return low > 0 or high < 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "accuracies": list(self.accuracies),
            "difference": self.difference,
            "difference_ci95": list(self.interval),
            "p": self.p,
            "p_exact": self.p_exact,
            "both_right": self.both,
            "only_a_right": self.only_a,
            "only_b_right": self.only_b,
            "none_right": self.neither,
        }


@dataclass(frozen=True)
class Disagreement:
    """Faces that the first model calls `a` and the second `b`: how many, and how many of them have which label."""

    a: str
    b: str
    n: int
    a_right: int
    b_right: int


@dataclass(frozen=True, eq=False)
class Comparison(Printed):
    """Two reports on the same faces, in the same order, with columns of the same classes."""

    a: Report
    b: Report

    @cached_property
    def answers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The class that each model answers, int64 (N,) each."""
        return self.a.probabilities.argmax(axis=1), self.b.probabilities.argmax(axis=1)

    @cached_property
    def right(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        labels = self.a.faces.labels
        return self.answers[0] == labels, self.answers[1] == labels

    def pair(self, which: npt.NDArray[np.bool_] | None = None) -> Pair:
        """All faces, or those of a mask, at least one."""
        a, b = self.right if which is None else (self.right[0][which], self.right[1][which])
        return Pair(len(a), int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()))

    @cached_property
    def overall(self) -> Pair:
        return self.pair()

    @property
    def without_duplicates(self) -> Pair | None:
        """Over distinct faces; None where duplicates were not looked for or nothing is left."""
        duplicate = self.a.faces.duplicate
        return None if duplicate is None or duplicate.all() else self.pair(~duplicate)

    @cached_property
    def judged(self) -> Pair:
        """What the verdict is taken from: distinct faces where copies were looked for, for a copy is no second opinion."""
        return self.without_duplicates or self.overall

    @property
    def judged_name(self) -> str:
        """`12 faces`, or `11 distinct faces` where there are copies."""
        return count(self.judged.n, "face" if self.judged.n == self.overall.n else "distinct face")

    @cached_property
    def per_class(self) -> dict[str, tuple[Pair, float]]:
        """Of each class with faces: how often each model finds them, and the p value, corrected for so many tests."""
        labels = self.a.faces.labels
        pairs = {
            name: self.pair(labels == label) for label, name in enumerate(self.a.classes) if (labels == label).any()
        }
        corrected = holm([pair.p for pair in pairs.values()])
        return {name: (pair, p) for (name, pair), p in zip(pairs.items(), corrected, strict=True)}

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Faces by the answer of the first model (row) and of the second (column), int64 (K, K)."""
        return counted(*self.answers, len(self.a.classes))

    @property
    def agreement(self) -> float:
        """Share of faces that both give the same answer."""
        return float(np.trace(self.counts)) / self.overall.n

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance (Cohen 1960)."""
        return cohen_kappa(self.counts)

    @cached_property
    def disagreements(self) -> list[Disagreement]:
        """What is called one thing by the first and another by the second, the most frequent first."""
        labels, (a, b) = self.a.faces.labels, self.answers
        found = []
        for row, column in zip(*np.nonzero(self.counts), strict=True):
            if row != column:
                true = labels[(a == row) & (b == column)]
                names = self.a.classes[row], self.a.classes[column]
                found.append(Disagreement(*names, len(true), int((true == row).sum()), int((true == column).sum())))
        return sorted(found, key=lambda one: -one.n)

    @cached_property
    def confident_disagreements(self) -> npt.NDArray[np.int64]:
        """Different faces with different answers, int64 (M,): first those where the less confident of the two is most confident."""
        repeated = self.a.faces.duplicate
        differ = np.flatnonzero((self.answers[0] != self.answers[1]) & (True if repeated is None else ~repeated))
        sure = np.minimum(self.a.probabilities[differ].max(axis=1), self.b.probabilities[differ].max(axis=1))
        return differ[np.argsort(-sure, kind="stable")]

    @cached_property
    def macro_f1_interval(self) -> tuple[float, float] | None:
        """95 % interval of the difference in macro-F1 by a paired bootstrap; None where fewer than ten faces decide.

        Ten that only one of the models gets right. The same faces give the same interval.
        """
        if self.overall.only_a + self.overall.only_b < _FEWEST_DECIDING:
            return None
        return macro_f1_interval(self.a.faces.labels, *self.answers, k=len(self.a.classes))

    @property
    def verdict(self) -> str:
        """Which is better, in a sentence, and how certain that is: on distinct faces, where duplicates were searched for."""
        pair = self.judged
        said = f"B \N{MINUS SIGN} A is {points(pair.difference)} percentage points, 95% interval {point_interval(pair.interval)}"
        if pair.nearly_differs:
            return f"Borderline on {self.judged_name}: {said}, {p_equals(pair.p)}."
        if not pair.differs():
            return f"No significant difference on {self.judged_name}: {said}, {p_equals(pair.p)}."
        better, worse = ("B", "A") if pair.difference > 0 else ("A", "B")
        return f"{better} is better than {worse} on {self.judged_name}: {said}, {p_equals(pair.p)}."

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit compare --json`."""
        distinct = self.without_duplicates
        return {
            "a": _summary(self.a),
            "b": _summary(self.b),
            "split": self.a.split,
            "truth": self.a.truth,
            "tta": self.a.tta,
            "verdict": self.verdict,
            **self.overall.to_dict(),
            "macro_f1_difference": self.b.macro_f1 - self.a.macro_f1,
            "macro_f1_difference_ci95": self.macro_f1_interval and list(self.macro_f1_interval),
            "without_duplicates": distinct and distinct.to_dict(),
            "per_class": {name: {**pair.to_dict(), "p_holm": p} for name, (pair, p) in self.per_class.items()},
            "agreement": self.agreement,
            "kappa": self.kappa,
            "classes": list(self.a.classes),
            "answers": self.counts.tolist(),
            "clashes": [asdict(one) for one in self.disagreements],
        }

    def document(self) -> Document:
        """The comparison as sections."""
        # Sections bring Matplotlib, which measuring does without.
        from ferkit.evaluation.comparison_sections import comparison_document

        return comparison_document(self)


def compare(
    a: Classifier | str | Path,
    b: Classifier | str | Path,
    data: Data,
    *,
    split: str = "test",
    tta: str | None = None,
    truth: str = "labels",
    votes: Path | None = None,
    skip_broken: bool = False,
    label_map: Mapping[str, str] | None = None,
    classes: str | Sequence[str] | None = None,
    pixel_scale: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two models on the same faces with paired tests; differences are B minus A.

    Args:
        a: a classifier, the path of a model, or the name of a packaged one.
        b: the model to compare it with. It must have the same classes; their order and the size of faces may differ.
        data: the path of a data set, or faces that both take.
        split: the split of a data set to evaluate on.
        tta: name of a test-time augmentation, for both.
        truth: "labels", or "votes": the FER+ majority label.
        votes: FER+ votes to join to data that is given by its path.
        skip_broken: leave unreadable faces out.
        label_map: class of the data -> class of the models, "" to leave it out, as `evaluate` takes it.
        classes: names in the order of the outputs, of those models that are bare files; see `EmotionClassifier.load`.
        pixel_scale: pixels that those were trained on: "0..1", "-1..1", "0..255" or "mean,std".
        progress: as `load_dataset` takes it.

    Raises:
        ModelError: models of different classes, or data with classes that they do not know.
        UsageError, DatasetError: as `evaluate`.

    Example:
        print(ferkit.compare("default", "my_model", "fer2013.csv", split="PublicTest").verdict)

    """
    check_options(tta=tta, truth=truth, votes=votes, data=data)
    first, second = open_classifiers([a, b], classes=classes, pixel_scale=pixel_scale)
    check_classes(first, second)
    sets = faces_for(
        [first, second], data, split=split, truth=truth, votes=votes, skip_broken=skip_broken, progress=progress
    )
    return compare_on(first, second, sets[0], sets[1], tta=tta, label_map=label_map)


def compare_on(
    a: Classifier,
    b: Classifier,
    faces: FaceSet,
    faces_for_b: FaceSet,
    *,
    tta: str | None = None,
    label_map: Mapping[str, str] | None = None,
) -> Comparison:
    """`compare` on faces that are loaded: once in the size that `a` takes, once in that of `b`."""
    check_classes(a, b)
    if faces_for_b.classes != faces.classes or not np.array_equal(faces_for_b.labels, faces.labels):
        raise DatasetError(
            f"{faces.name} and {faces_for_b.name} are not the same faces. Load both from the same source."
        )
    if label_map is not None:
        # Here, because it needs reports itself.
        from ferkit.evaluation.cross_dataset import match_classes

        faces, matched = match_classes(a.classes, faces, label_map, model="The models")
        faces_for_b, _ = match_classes(a.classes, faces_for_b, label_map, model="The models")
        if matched.note:
            _log.info("Note: %s", matched.note)
    _check_data(a, faces)
    check_unseen([a, b], faces)
    first, second = evaluate(a, faces, tta=tta), evaluate(b, faces_for_b, tta=tta)
    return Comparison(first, _in_order(second, first))


def check_classes(a: Classifier, b: Classifier) -> None:
    """Raise `ModelError` for two models of different classes; order and aliases may differ."""
    known, others = ([canonical(name) for name in one.classes] for one in (a, b))
    if set(known) != set(others):
        raise ModelError(
            f"A comparison needs models of the same classes: {a.name} knows {', '.join(known)}; {b.name} knows "
            f"{', '.join(others)}. Compare models of the same classes."
        )


def _check_data(a: Classifier, faces: FaceSet) -> None:
    """Raise `ModelError` for data with classes that the models do not know, and say where they can be left out."""
    known, wanted = ([canonical(name) for name in classes] for classes in (a.classes, faces.classes))
    if strange := [name for name in wanted if name not in known]:
        raise ModelError(
            f"The models have the classes {', '.join(known)}; the data also has {', '.join(strange)}. Map these with --label-map: "
            f"{strange[0]}= drops {strange[0]}, {strange[0]}={known[0]} counts it as {known[0]}."
        )


def _in_order(report: Report, like: Report) -> Report:
    """A report with the classes in the order of another one: those that no face has stand as its model has them."""
    if report.classes == like.classes:
        return report
    columns = [report.classes.index(name) for name in like.classes]
    faces = replace(report.faces, classes=like.classes, votes=like.faces.votes)
    seconds = report.n / report.faces_per_second
    return measure(report.probabilities[:, columns], faces, model=report.model, seconds=seconds, tta=report.tta)


def _summary(report: Report) -> dict[str, Any]:
    return {
        "model": report.model,
        "accuracy": report.accuracy,
        "accuracy_ci95": list(report.accuracy_ci95),
        "balanced_accuracy": report.balanced_accuracy,
        "macro_f1": report.macro_f1,
        "nll": report.nll,
        "ece": report.ece,
        "faces_per_second": report.faces_per_second,
    }
