"""An evaluation as a report: what its metrics say, class by class, how far its confidence can be believed, which faces."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ferkit.data import SPLIT_ALIASES, TRUTHS
from ferkit.errors import count
from ferkit.evaluation import figures as plots
from ferkit.evaluation import metrics
from ferkit.evaluation.report import History, Report, read_history
from ferkit.labels import EMOTIONS
from ferkit.models import INTENDED_USE
from ferkit.render import (
    Beside,
    Block,
    Cell,
    ClassName,
    Column,
    DataTable,
    Document,
    FaceGallery,
    FaceTile,
    Figure,
    Metric,
    Metrics,
    Row,
    Section,
    Text,
    duration,
    interval,
    number,
    percent,
    write_page,
)

_WIDEST_CONFUSION = 12  # classes; beyond that no terminal shows the matrix, the page does
_FACES = 24
_CLOSE = 0.1  # where the first prediction leads by less, the text counts how often each of the two is right
_NOTABLE = 0.01  # of mean confidence and accuracy, the difference from which confidence is called off
_KEPT = 0.8  # the coverage that a sentence tells the accuracy at


def write_report(report: Report, folder: Path, history: History = (), run: Path | None = None) -> Path:
    """Write `index.html`, which holds everything, with `report.json` and the plots in `figures/` for use elsewhere.

    history: the training run, one mapping per epoch as `figures.training_curves` takes it. run: in its place the folder
    of a run, which may have a `history.csv`.
    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    if run is not None and (run / "history.csv").is_file():
        history = read_history(run / "history.csv")
    return write_page(report.document(history), Path(folder))


def report_document(report: Report, history: History = ()) -> Document:
    """All of an evaluation. history: of the training run, empty where there was none."""
    own = report.to_dict()
    for part in report.parts:
        del own[part.key]
    return Document(
        title=f"{report.model} on {on_split(report)}",
        about=f"{count(report.n, 'face')}{with_views(report)}, {report.faces_per_second:,.0f} faces/s",
        sections=tuple(_sections(report, history)),
        data=own,
    )


def compared(reports: Sequence[Report]) -> Document:
    """Several models on the same faces, a row each, the most accurate first."""
    rows = []
    for one in sorted(reports, key=lambda report: -report.accuracy):
        distinct = one.without_duplicates
        scores = (percent(one.accuracy), interval(one.accuracy_ci95), percent(distinct.accuracy if distinct else None))
        rows.append((one.model, *scores, number(one.macro_f1), percent(one.ece), f"{one.faces_per_second:,.0f}"))
    columns = ("Model", "Accuracy", "95% interval", "Distinct", "Macro-F1", "ECE", "Faces/s")
    first = reports[0]
    title = f"{len(reports)} models on {on_split(first)}"
    about = f"{count(first.n, 'face')}{with_views(first)}"
    return Document(title, about, (Section("", (DataTable(columns, tuple(rows)),)),))


def on_split(report: Report) -> str:
    """What was evaluated on, and the ground truth, if it is not the labels."""
    return f"{report.split}, {TRUTHS[report.truth]}" if TRUTHS[report.truth] else report.split


def with_views(report: Report) -> str:
    """The test-time augmentation, if there was one."""
    return f", {report.tta} views" if report.tta else ""


def _sections(report: Report, history: History) -> Iterator[Section]:
    probabilities, labels = report.probabilities, report.faces.labels
    yield Section("Summary", (_metrics(report), *_context(report)), wide=True)
    yield Section("Duplicates", tuple(_duplicates(report)))
    yield Section("Intended use", (Text(INTENDED_USE, detail=True),), notice=True)
    yield Section("Per-class metrics", (Text(_PER_CLASS, detail=True), _per_class(report)), wide=True)
    confusion = Figure(
        "confusion",
        lambda path, theme: plots.confusion_matrix(report.confusion, report.classes, path, theme=theme),
        "Confusion matrix; the table below it has the same counts.",
    )
    yield Section("Confusion matrix", (Text(_confusion_text(report), detail=True), confusion, _counts(report)))
    reliability = Figure(
        "reliability",
        lambda path, theme: plots.reliability_diagram(probabilities, labels, path, theme=theme),
        "Reliability diagram: accuracy against stated confidence, with the number of faces per bin.",
    )
    yield Section("Calibration", (Text(_calibration(report)), reliability))
    coverage = Figure(
        "coverage",
        lambda path, theme: plots.coverage_curve(probabilities, labels, path, theme=theme),
        "Accuracy against coverage; the table has the same numbers.",
    )
    blocks = (Text(_selective_text(report)), Beside((coverage,), (_thresholds(report),)))
    yield Section("Selective prediction", blocks, wide=True)
    yield from (part.section() for part in report.parts)
    if history:
        yield Section("Training", tuple(_training(history, report.card)), wide=True)
    text = "Label, then prediction; the strip has the prediction's colour. Some of these labels are wrong themselves."
    yield Section("Most confident errors", (Text(text, detail=True), _errors(report)), wide=True)
    least = Text(_least_confident_text(report), detail=True)
    yield Section("Least confident predictions", (least, _least_confident(report)), wide=True)
    if report.card:
        entries = DataTable((), tuple(_entries(report.card)), folded="All entries", detail=True)
        yield Section("Model card", (Text("Statements from the model's card.", detail=True), entries), wide=True)


def _metrics(report: Report) -> Metrics:
    commonest = max(report.classes, key=lambda name: report.per_class[name].n)
    always, present = report.per_class[commonest].n / report.n, sum(one.n > 0 for one in report.per_class.values())
    return Metrics(
        (
            Metric(
                "Accuracy",
                percent(report.accuracy),
                f"95% interval: {interval(report.accuracy_ci95)}. Always predicting {commonest} would score {percent(always)}.",
            ),
            Metric(
                "Balanced accuracy",
                percent(report.balanced_accuracy),
                f"Mean recall of the classes, rare ones counting as much as common ones. Chance: {percent(1 / present)}.",
            ),
            Metric("Macro-F1", number(report.macro_f1), "Mean F1 of the classes; 1 is perfect."),
            Metric(
                "Calibration error",
                percent(report.ece),
                "Mean gap between confidence and accuracy (ECE, 15 bins). "
                f"Log loss: {number(report.nll)} nats; a uniform prediction scores {np.log(len(report.classes)):.3f}.",
            ),
        )
    )


def _context(report: Report) -> Iterator[Text]:
    """What a reader must know before comparing the accuracy with anything."""
    said = [report.note] if report.note else []
    if report.classes == EMOTIONS and report.split in SPLIT_ALIASES.values():
        said.append(
            "Human agreement with FER-2013 labels is 65 ± 5% (Goodfellow et al. 2013). Accuracy above that partly reflects "
            "label conventions of this data set."
        )
    chosen_on = report.card.get("metrics")
    if isinstance(chosen_on, Mapping) and chosen_on.get("split") == report.split:
        said.append("The model was chosen on this split, so expect a little less on unseen faces.")
    if said:
        yield Text(" ".join(said), quiet=True)


def _duplicates(report: Report) -> Iterator[Block]:
    distinct = report.without_duplicates
    if distinct is None:
        yield Text("Duplicates were not searched for.")
        return
    if distinct.n == report.n:
        yield Text("No duplicates.")
        return
    yield Text(
        f"{count(report.n - distinct.n, 'face')} also in an earlier split or earlier in this one, with identical pixels. "
        "A model may have memorised these; compare models by the accuracy without them."
    )
    scores = (
        ("All faces", report.n, report.accuracy, report.macro_f1),
        ("Without duplicates", distinct.n, distinct.accuracy, distinct.macro_f1),
    )
    rows = tuple((name, f"{n:,}", percent(accuracy), number(f1)) for name, n, accuracy, f1 in scores)
    yield DataTable(("", "Faces", "Accuracy", "Macro-F1"), rows)


_PER_CLASS = (
    "Precision: correct predictions of a class / all predictions of it. Recall: correct predictions of a class / all its "
    "faces. F1: their harmonic mean."
)


def _per_class(report: Report) -> DataTable:
    rows: list[Row] = []
    for row, (name, one) in enumerate(report.per_class.items()):
        others = report.confusion[row].copy()
        others[row] = 0
        most = int(others.argmax())
        confused = f"{report.classes[most]} ({others[most] / one.n:.0%})" if others[most] else "-"
        scores = map(number, (one.precision, one.recall, one.f1))
        rows.append((ClassName(name), f"{one.n:,}", *scores, confused))
    columns = ("Class", "Faces", "Precision", "Recall", "F1", Column("Most confused with", left=True))
    return DataTable(columns, tuple(rows))


def _confusion_text(report: Report) -> str:
    hits = int(np.trace(report.confusion))
    return (
        "Each row holds the faces of one true class and the share of them that is predicted as each class. On the diagonal "
        f"predictions are correct: {hits:,} of {report.n:,}."
    )


def _counts(report: Report) -> DataTable:
    rows: list[Row] = []
    for row, (name, counts) in enumerate(zip(report.classes, report.confusion.tolist(), strict=True)):
        total = sum(counts) or 1
        cells = (Cell(f"{n:,}", percent(n / total), strong=row == place) for place, n in enumerate(counts))
        rows.append((name, *cells))
    wide = len(report.classes) > _WIDEST_CONFUSION
    return DataTable(
        ("True \\ predicted", *report.classes), tuple(rows), folded="Counts and rates as a table", detail=wide
    )


def _calibration(report: Report) -> str:
    confidence = float(report.probabilities.max(axis=1).mean(dtype=np.float64))
    gap = confidence - report.accuracy
    verdict = "calibrated" if abs(gap) < _NOTABLE else "overconfident" if gap > 0 else "underconfident"
    return (
        f"Mean confidence is {percent(confidence)}, accuracy {percent(report.accuracy)}: on average the model is {verdict}. "
        f"The expected calibration error is {percent(report.ece)}. Where a bar stays below the diagonal, predictions of "
        "that confidence are wrong more often than they say."
    )


def _selective_text(report: Report) -> str:
    kept = report.accuracy_at_coverage(_KEPT)
    return (
        f"At {_KEPT:.0%} coverage, with the {1 - _KEPT:.0%} least confident predictions rejected, accuracy is "
        f"{percent(kept)} instead of {percent(report.accuracy)}. The table gives coverage and accuracy for thresholds on the "
        "confidence (--min-confidence); in the macro columns every class counts the same."
    )


def _thresholds(report: Report) -> DataTable:
    columns = ("Threshold", "Coverage", "Accuracy", "95% interval", "Macro coverage", "Balanced accuracy")
    rows = tuple(
        (
            f"{one.min_confidence:.1f}",
            percent(one.coverage),
            percent(one.accuracy),
            interval(one.accuracy_ci95),
            percent(one.balanced_coverage),
            percent(one.balanced_accuracy),
        )
        for one in report.coverage
    )
    return DataTable(columns, rows)


def _training(history: History, card: Mapping[str, Any]) -> Iterator[Block]:
    yield Text(
        "Validation faces are never trained on: where validation stops improving while training continues, the model "
        "overfits. The mark is the epoch that was kept.",
        detail=True,
    )
    curves = Figure(
        "curves",
        lambda path, theme: plots.training_curves(history, path, theme=theme),
        "Loss, accuracy and learning rate by epoch.",
    )
    speed = Figure(
        "speed",
        lambda path, theme: plots.training_speed(history, path, theme=theme),
        "Faces per second of each epoch; the table has the median.",
    )
    side = (speed,) if any("faces_per_second" in row for row in history) else ()
    yield Beside((curves,), (*side, DataTable((), tuple(_facts(history, card)), detail=True)), even=True)


def _facts(history: History, card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    validated = [row for row in history if "val_accuracy" in row]
    best = max(validated, key=lambda row: row["val_accuracy"], default=None)
    yield "Epochs", f"{len(history)}" + (f", best: {best['epoch']:.0f}" if best else "")
    if seconds := [row["seconds"] for row in history if "seconds" in row]:
        yield "Time", f"{duration(sum(seconds))} of training steps, without validation and saving"
    if speeds := [row["faces_per_second"] for row in history if "faces_per_second" in row]:
        yield "Speed", f"{median(speeds):,.0f} faces/s (median), {min(speeds):,.0f} to {max(speeds):,.0f}"
    training = card.get("training")
    sessions = training.get("sessions", training.get("sittings")) if isinstance(training, Mapping) else None
    if isinstance(sessions, list) and sessions:
        machines = Counter(_machine(one) for one in sessions if isinstance(one, Mapping))
        said = "; ".join(f"{n} on {one}" if len(machines) > 1 else f"on {one}" for one, n in machines.items())
        yield "Sessions", f"{len(sessions)}, {said}" if said else f"{len(sessions)}"


def _machine(session: Mapping[str, Any]) -> str:
    cores = session.get("cpu_count")
    return f"{session.get('backend', 'an unknown backend')}" + (f" with {cores} cores" if cores else "")


def _errors(report: Report) -> FaceGallery:
    tiles = []
    for index in metrics.confident_mistakes(report.probabilities, report.faces.labels, _FACES):
        true, confidence = _label(report, index), f"{report.probabilities[index].max():.0%}"
        answer = report.classes[int(report.probabilities[index].argmax())]
        alt = f"Face labelled {true}, predicted {answer} with {confidence}"
        caption, below = f"{true} \N{RIGHTWARDS ARROW} {answer}", (f"confidence {confidence}",)
        tiles.append(FaceTile(report.faces.images[index], (answer,), caption, below, alt))
    return FaceGallery(tuple(tiles), "mistakes")


def _least_confident(report: Report) -> FaceGallery:
    tiles = []
    for index in metrics.most_doubtful(report.probabilities, _FACES):
        ranked = np.argsort(-report.probabilities[index], kind="stable")[:2]
        answers = tuple(report.classes[k] for k in ranked)
        caption, true = " or ".join(answers), _label(report, index)
        first, second = (f"{report.probabilities[index, k]:.0%}" for k in ranked)
        alt = f"Face labelled {true}, predicted {caption} with {first} and {second}"
        below = (f"label: {true}", f"{first} and {second}")
        tiles.append(FaceTile(report.faces.images[index], answers, caption, below, alt))
    return FaceGallery(tuple(tiles), "doubtful")


def _least_confident_text(report: Report) -> str:
    text = "The two most probable classes, which are almost equally likely here, and the label; the strip has both colours."
    close = metrics.margins(report.probabilities) < _CLOSE
    if not close.any():
        return text
    probabilities, labels = report.probabilities[close], report.faces.labels[close]
    without_first = probabilities.copy()
    np.put_along_axis(without_first, probabilities.argmax(axis=1)[:, None], -1, axis=1)
    first, second = (metrics.accuracy(one, labels) for one in (probabilities, without_first))
    return (
        f"{text} Of all {count(report.n, 'face')}, {close.sum():,} have a margin below {_CLOSE * 100:.0f} percentage points; of "
        f"these the first class is right for {first:.0%}, the second for {second:.0%}."
    )


def _label(report: Report, index: int) -> str:
    return report.classes[int(report.faces.labels[index])]


def _entries(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """All entries of a card, those within others with the names of these before them."""
    for key, value in entry.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _entries(value, f"{name}: ")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for place, one in enumerate(value, 1):
                yield from _entries(one if isinstance(one, Mapping) else {"entry": one}, f"{name} {place}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)
