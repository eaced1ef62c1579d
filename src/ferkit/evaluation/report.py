"""An evaluation as tables on a terminal, and several side by side.

Say how good a classifier is on labelled faces: run it, measure it, keep what pictures and pages need.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.data import TRUTHS, FaceSet
from ferkit.errors import UsageError, count
from ferkit.evaluation import metrics
from ferkit.evaluation.metrics import Answered, ClassScores
from ferkit.models import TTA, Classifier, augmented, matched

_WIDEST_CONFUSION = 12  # classes; beyond that no terminal shows the matrix, the report page does


def as_text(tables: RenderableType) -> str:
    """Tables as plain text, 100 letters wide, for `str` and logs."""
    plain = Console(file=io.StringIO(), width=100, color_system=None)
    with plain.capture() as capture:
        plain.print(tables)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def of_one(report: "Report") -> Group:
    """All figures of one evaluation."""
    title = f"{report.model} on {_where(report)}: {count(report.n, 'face')}, {report.faces_per_second:,.0f} faces/s"
    parts: list[RenderableType] = [Text(title + _views(report), style="bold"), "", _figures(report), ""]
    parts.append(_per_class(report))
    if report.note:
        parts += ["", Text(report.note)]
    if len(report.classes) <= _WIDEST_CONFUSION:
        parts += ["", _confusion(report)]
    return Group(*parts, "", _coverage(report))


def compared(reports: Sequence["Report"]) -> Group:
    """Several models on the same faces, a row each, the most accurate first."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("model", overflow="fold")
    for heading in ("accuracy", "95% interval", "distinct", "macro-F1", "ECE", "faces/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in sorted(reports, key=lambda report: -report.accuracy):
        low, high = one.accuracy_ci95
        distinct = f"{one.without_duplicates.accuracy:.1%}" if one.without_duplicates else "-"
        table.add_row(
            Text(one.model),
            f"{one.accuracy:.1%}",
            f"{100 * low:.1f}-{high:.1%}",
            distinct,
            f"{one.macro_f1:.3f}",
            f"{one.ece:.1%}",
            f"{one.faces_per_second:,.0f}",
        )
    first = reports[0]
    title = f"{len(reports)} models on {_where(first)}: {count(first.n, 'face')}{_views(first)}"
    return Group(Text(title, style="bold"), "", table)


def _where(report: "Report") -> str:
    return f"{report.split} by the voters' first choice" if report.truth == "votes" else report.split


def _views(report: "Report") -> str:
    return f", {report.tta} views" if report.tta else ""


def _figures(report: "Report") -> Table:
    low, high = report.accuracy_ci95
    distinct = report.without_duplicates
    rows = [
        ("accuracy", f"{report.accuracy:.1%}", f"95% interval {low:.1%} to {high:.1%}"),
        ("  of the surest 80%", f"{report.accuracy_at_coverage(0.8):.1%}", "the 20% least confident faces left out"),
        *([("  without duplicates", f"{distinct.accuracy:.1%}", f"{distinct.n:,} distinct faces")] if distinct else []),
        ("balanced accuracy", f"{report.balanced_accuracy:.1%}", "every class counts the same"),
        ("macro-F1", f"{report.macro_f1:.3f}", f"without duplicates {distinct.macro_f1:.3f}" if distinct else ""),
        ("log loss (nll)", f"{report.nll:.3f}", f"an even guess costs {np.log(len(report.classes)):.3f}"),
        ("calibration error (ECE)", f"{report.ece:.1%}", "mean gap between confidence and accuracy"),
    ]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    return table


def _coverage(report: "Report") -> Group:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("--min-confidence", justify="right")
    for heading in ("answered", "right", "95% interval", "by class", "right"):
        table.add_column(heading, justify="right")
    for one in report.coverage:
        shares = (one.coverage, one.accuracy, one.accuracy_ci95, one.balanced_coverage, one.balanced_accuracy)
        cells = (
            "-" if x is None else f"{x[0]:.1%} to {x[1]:.1%}" if isinstance(x, tuple) else f"{x:.1%}" for x in shares
        )
        table.add_row(f"{one.min_confidence:.1f}", *cells)
    title = "When it may say: uncertain. By class: every class counts the same."
    return Group(Text(title, style="dim"), table)


def _per_class(report: "Report") -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("class")
    for heading in ("faces", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    for name, one in report.per_class.items():
        scores = ((one.precision, "{:.1%}"), (one.recall, "{:.1%}"), (one.f1, "{:.3f}"))
        cells = ("-" if score is None else style.format(score) for score, style in scores)
        # The name comes from the data: as Text, its brackets are no markup.
        table.add_row(Text(name), f"{one.n:,}", *cells)
    return table


def _confusion(report: "Report") -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("true \\ predicted")
    for name in report.classes:
        table.add_column(Text(name), justify="right")
    for row, name in enumerate(report.classes):
        cells = [
            Text(f"{count:,}", style="bold" if row == column else "" if count else "dim")
            for column, count in enumerate(report.confusion[row].tolist())
        ]
        table.add_row(Text(name), *cells)
    return table


@dataclass(frozen=True)
class DistinctScores:
    """The figures over faces whose pixels were not seen before, in this split or in one that comes first."""

    n: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, eq=False)
class Report:
    """What a classifier got right and wrong on one set of faces. Shares are fractions, 0 to 1.

    classes: class names in the order of the data, which is that of `per_class`, `confusion` and `probabilities`; after
        them those that only the model knows.
    accuracy_ci95: 95 % Wilson interval.
    nll: log loss in nats. ece: expected calibration error over 15 bins.
    confusion: int64 (K, K), rows true, columns predicted.
    without_duplicates: the figures over distinct faces; None where duplicates were not looked for or nothing is left.
    faces_per_second: over the whole prediction, including every view of a test-time augmentation.
    probabilities: float32 (N, K), one row per face of `faces`; for galleries and plots, not in the JSON.
    """

    model: str
    split: str
    n: int
    accuracy: float
    accuracy_ci95: tuple[float, float]
    macro_f1: float
    balanced_accuracy: float
    nll: float
    ece: float
    per_class: dict[str, ClassScores]
    confusion: metrics.Confusion
    without_duplicates: DistinctScores | None
    faces_per_second: float
    tta: str | None = None
    faces: FaceSet = field(repr=False, kw_only=True)
    probabilities: npt.NDArray[np.float32] = field(repr=False, kw_only=True)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.faces.classes

    @property
    def truth(self) -> str:
        """What the answers were compared with: one of `ferkit.data.records.TRUTHS`."""
        return self.faces.truth

    @property
    def note(self) -> str:
        """What a reader must know about classes that no face is labelled with; empty where there are none."""
        absent = ", ".join(name for name, one in self.per_class.items() if not one.n)
        return f"No face is labelled {absent}; such answers count as wrong." if absent else ""

    def accuracy_at_coverage(self, coverage: float) -> float:
        """Accuracy when only the `coverage` share of faces with the highest confidence is answered."""
        return metrics.accuracy_at_coverage(self.probabilities, self.faces.labels, coverage)

    @property
    def coverage(self) -> tuple[Answered, ...]:
        """How much is answered, and how well, at the confidences in `metrics.CONFIDENCES`."""
        return tuple(metrics.answered(self.probabilities, self.faces.labels, p) for p in metrics.CONFIDENCES)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `ferkit evaluate --json`; what cannot be scored for lack of faces is null.

        New keys come at its end.
        """
        distinct = self.without_duplicates
        return {
            "model": self.model,
            "split": self.split,
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_ci95": list(self.accuracy_ci95),
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "nll": self.nll,
            "ece": self.ece,
            "per_class": {
                name: {"precision": one.precision, "recall": one.recall, "f1": one.f1, "n": one.n}
                for name, one in self.per_class.items()
            },
            "confusion": self.confusion.tolist(),
            "without_duplicates": distinct
            and {"n": distinct.n, "accuracy": distinct.accuracy, "macro_f1": distinct.macro_f1},
            "faces_per_second": self.faces_per_second,
            "coverage": [
                asdict(one) | {"accuracy_ci95": one.accuracy_ci95 and list(one.accuracy_ci95)} for one in self.coverage
            ],
            "tta": self.tta,
            "truth": self.truth,
        }

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> Group:
        return of_one(self)


class Addition(Protocol):
    """Something else that was measured: a key of its own in the JSON document, and a section of the report page."""

    @property
    def key(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...
    def section(self, figures: Path) -> str:
        """HTML of `ferkit.render.document.section`; its plots are written into the folder `figures` too."""


def to_document(report: Report, additions: Sequence[Addition] = ()) -> dict[str, Any]:
    """The JSON document of an evaluation, with all that was measured besides at its end."""
    return report.to_dict() | {one.key: one.to_dict() for one in additions}


def evaluate(
    classifier: Classifier | str | Path, faces: FaceSet, *, tta: str | None = None, truth: str = "labels"
) -> Report:
    """Run a classifier (or the model at a path, or "default") on labelled faces and measure the answers.

    tta: name of a test-time augmentation in `ferkit.models.tta.TTA`, or None; the mean is taken of calibrated probabilities.
    truth: "labels", or "votes": the voters' first choice, on the faces that have one (`FaceSet.by_votes`).
    The data may lack classes of the model: answers with these are wrong, and nothing is renormalised.
    Raises `ModelError` if the data has classes that the model does not know, `DatasetError` if there is no face or the
    faces have another size than the model takes or no votes, `UsageError` for an unknown `tta` or `truth`.

        dataset = ferkit.load_dataset("fer2013.csv")
        print(ferkit.evaluate("my_model", dataset.test, tta="flip"))
    """
    if tta is not None:
        TTA[tta]
    if truth not in TRUTHS:
        raise UsageError(f"Unknown truth {truth!r}. Choices: {', '.join(TRUTHS)}.")
    if truth == "votes":
        faces, _ = faces.by_votes()
    model = _load(classifier) if isinstance(classifier, str | Path) else classifier
    faces, ask = matched(augmented(model, tta), faces)
    start = time.perf_counter()
    probabilities = ask(faces.images)
    seconds = time.perf_counter() - start
    return measure(probabilities, faces, model=model.name, seconds=seconds, tta=tta)


def measure(
    probabilities: npt.NDArray[np.float32], faces: FaceSet, *, model: str, seconds: float, tta: str | None = None
) -> Report:
    """Report on predictions that exist already: float (N, K), columns in the order of `faces.classes`.

    seconds: how long predicting them took.
    """
    labels = faces.labels
    confusion = metrics.confusion_matrix(probabilities, labels)
    n, hits = len(labels), int(np.trace(confusion))
    return Report(
        model=model,
        split=faces.name,
        n=n,
        accuracy=hits / n,
        accuracy_ci95=metrics.wilson_interval(hits, n),
        macro_f1=metrics.macro_f1(confusion),
        balanced_accuracy=metrics.balanced_accuracy(confusion),
        nll=metrics.nll(probabilities, labels),
        ece=metrics.ece(probabilities, labels),
        per_class=dict(zip(faces.classes, metrics.class_scores(confusion), strict=True)),
        confusion=confusion,
        without_duplicates=_without_duplicates(probabilities, faces),
        faces_per_second=n / max(seconds, 1e-9),
        tta=tta,
        faces=faces,
        probabilities=probabilities,
    )


def _load(path: str | Path) -> Classifier:
    # Here, because measuring a model in memory needs no runtime to load one from disk.
    from ferkit.models import EmotionClassifier

    return EmotionClassifier.load(path)


def _without_duplicates(probabilities: npt.NDArray[np.float32], faces: FaceSet) -> DistinctScores | None:
    if faces.duplicate is None or faces.duplicate.all():
        return None
    distinct = ~faces.duplicate
    confusion = metrics.confusion_matrix(probabilities[distinct], faces.labels[distinct])
    n = int(confusion.sum())
    return DistinctScores(n=n, accuracy=int(np.trace(confusion)) / n, macro_f1=metrics.macro_f1(confusion))
