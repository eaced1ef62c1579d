"""An evaluation as one web page that explains its own figures: no script, no other host, readable on a phone."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ferkit import plots
from ferkit.datasets.records import SPLIT_ALIASES
from ferkit.errors import FerkitError
from ferkit.evaluation import Addition, Report, to_document
from ferkit.files import write_atomically
from ferkit.labels import EMOTIONS
from ferkit.model_folder import INTENDED_USE
from ferkit.plots import galleries
from ferkit.report import faces, run
from ferkit.report.document import document
from ferkit.report.parts import both_themes, class_name, number, percent, scrolling_table, section
from ferkit.report.run import History
from ferkit.wording import count

_ALT = {
    "confusion": "Confusion matrix; the same counts stand in the table below it.",
    "reliability": "Reliability diagram: accuracy against stated confidence, with the number of faces per bin.",
    "coverage": "Accuracy against the share of faces answered; the table below it has the figures.",
    "curves": "Loss, accuracy and learning rate by epoch.",
    "speed": "Faces per second of each epoch; the table beside it has the median.",
}


def write_report(
    report: Report,
    folder: Path,
    history: History | None = None,
    card: Mapping[str, Any] | None = None,
    additions: Sequence[Addition] = (),
) -> Path:
    """Write `index.html`, which holds everything, with `report.json` and the plots in `figures/` for use elsewhere.

    history: the training run, one mapping per epoch as `plots.training_curves` takes it. card: the model's card.
    additions: what else was measured, such as a `GroupReport`; a section each.
    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    folder = Path(folder)
    labels, probabilities = report.faces.labels, report.probabilities
    draw: dict[str, Callable[[Path, plots.Theme], None]] = {
        "confusion": lambda path, theme: plots.confusion_matrix(report.confusion, report.classes, path, theme=theme),
        "reliability": lambda path, theme: plots.reliability_diagram(probabilities, labels, path, theme=theme),
        "coverage": lambda path, theme: plots.coverage_curve(probabilities, labels, path, theme=theme),
    }
    if history:
        draw["curves"] = lambda path, theme: plots.training_curves(history, path, theme=theme)
        if run.has_speed(history):
            draw["speed"] = lambda path, theme: plots.training_speed(history, path, theme=theme)
    pictures = {name: both_themes(folder / "figures", name, plot, _ALT[name]) for name, plot in draw.items()}
    drawers = {"mistakes": galleries.mistakes_gallery, "doubtful": galleries.doubtful_gallery}
    for name, gallery in drawers.items():
        gallery(report.faces, probabilities, folder / "figures" / f"{name}.png", count=faces.COUNT)

    sections = [one.section(folder / "figures") for one in additions]
    views = f", each seen with {escape(report.tta)}" if report.tta else ""
    about = f"{count(report.n, 'face')}{views}, {report.faces_per_second:,.0f} faces per second on the machine that wrote this page."
    page = document(f"{report.model} on {report.split}", about, _sections(report, pictures, history, card, sections))
    with write_atomically(folder / "report.json") as draft:
        draft.write_text(
            json.dumps(to_document(report, additions), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    with write_atomically(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a run from its `history.csv`; empty fields are left out."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as problem:
        raise FerkitError(f"{path} is no history of a training run: {problem}.") from problem


def _sections(
    report: Report,
    pictures: Mapping[str, str],
    history: History | None,
    card: Mapping[str, Any] | None,
    additions: Sequence[str],
) -> Iterator[str]:
    yield section("In short", "", _tiles(report) + _context(report, card or {}), wide=True)
    yield section("Faces it may have seen before", *_duplicates(report))
    yield section("What it may be used for", escape(INTENDED_USE), "", kind="notice")
    yield section("Each class", _PER_CLASS, _per_class(report), wide=True)
    yield section("What is taken for what", _confusion_text(report), pictures["confusion"] + _counts(report))
    yield section("Can its confidence be believed?", _reliability_text(report), pictures["reliability"])
    yield section("What if it may stay silent?", _coverage_text(report), _coverage(report, pictures), wide=True)
    yield from additions
    if history:
        body = run.trained(history, card or {}, pictures)
        yield section("How it was trained", run.CURVES_TEXT, body, wide=True)
    text, gallery = faces.MISTAKES_TEXT, faces.mistakes(report)
    yield section("The mistakes it was surest of", text, gallery, wide=True)
    text, gallery = faces.doubtful_text(report), faces.doubtful(report)
    yield section("The faces it hesitated over most", text, gallery, wide=True)
    if card:
        yield section("Model card", "What the model folder says about itself.", run.model_card(card), wide=True)


_PER_CLASS = (
    "Precision: of the faces called so, the share that is labelled so. Recall: of the faces labelled so, the share "
    "that was found. F1 is their harmonic mean; it is high only when both are."
)


def _tiles(report: Report) -> str:
    low, high = report.accuracy_ci95
    commonest = max(report.classes, key=lambda name: report.per_class[name].n)
    always = report.per_class[commonest].n / report.n
    tiles = [
        (
            "Accuracy",
            f"{report.accuracy:.1%}",
            f"of the faces get the label they carry. 95% interval: {low:.1%} to {high:.1%}. "
            f"Always answering {escape(commonest)} would score {always:.1%}.",
        ),
        (
            "Balanced accuracy",
            f"{report.balanced_accuracy:.1%}",
            f"is the mean recall when rare classes count as much as common ones. A guess: {1 / _present(report):.1%}.",
        ),
        (
            "Macro-F1",
            f"{report.macro_f1:.3f}",
            "is the mean F1 of the classes: 1 is perfect. Rare classes count in full.",
        ),
        (
            "Calibration error",
            f"{report.ece:.1%}",
            "is the mean gap between stated confidence and accuracy (ECE, 15 bins). "
            f"Log loss: {report.nll:.3f} nats; an even guess costs {np.log(len(report.classes)):.3f}.",
        ),
    ]
    cells = "\n".join(
        f"<div><dt>{name}</dt><dd><strong>{value}</strong><small>{text}</small></dd></div>"
        for name, value, text in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _context(report: Report, card: Mapping[str, Any]) -> str:
    """What a reader must know before comparing the accuracy with anything."""
    said = [escape(report.note)] if report.note else []
    if report.classes == EMOTIONS and report.split in SPLIT_ALIASES.values():
        said.append(
            "People agree with the labels of FER-2013 on 65 &plusmn; 5% of the faces (Goodfellow et al. 2013). "
            "A figure well above that deserves a second look at the data."
        )
    chosen_on = card.get("metrics")
    if isinstance(chosen_on, Mapping) and chosen_on.get("split") == report.split:
        said.append("The model was chosen on this split, so expect a little less on unseen faces.")
    return f'<p class="context">{" ".join(said)}</p>' if said else ""


def _present(report: Report) -> int:
    return sum(one.n > 0 for one in report.per_class.values())


def _per_class(report: Report) -> str:
    rows = []
    for row, (name, one) in enumerate(report.per_class.items()):
        others = report.confusion[row].copy()
        others[row] = 0
        most = int(others.argmax())
        taken = f"{escape(report.classes[most])} ({others[most] / one.n:.0%})" if others[most] else "-"
        scores = "".join(f"<td>{number(score)}</td>" for score in (one.precision, one.recall, one.f1))
        rows.append(
            f'<tr><th scope="row">{class_name(name)}</th><td>{one.n:,}</td>{scores}<td class="words">{taken}</td></tr>'
        )
    head = "".join(f'<th scope="col">{text}</th>' for text in ("Class", "Faces", "Precision", "Recall", "F1"))
    return scrolling_table(f'{head}<th scope="col" style="text-align:left">Most often taken for</th>', rows)


def _counts(report: Report) -> str:
    """The matrix as a table, for those who cannot see the picture or want to copy the numbers."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in report.classes)
    rows = [
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{count:,}<small>{percent(count / (sum(counts) or 1))}</small></td>" for count in counts)
        + "</tr>"
        for name, counts in zip(report.classes, report.confusion.tolist(), strict=True)
    ]
    table = scrolling_table(f'<th scope="col">True \\ predicted</th>{head}', rows)
    return f"<details><summary>Counts and rates as a table</summary>{table}</details>"


def _confusion_text(report: Report) -> str:
    return (
        "Each row holds the faces of one label and says what they were called, in per cent and in faces; the diagonal "
        f"is right. In all, {int(np.trace(report.confusion)):,} of {report.n:,} are."
    )


def _reliability_text(report: Report) -> str:
    mean = float(report.probabilities.max(axis=1).mean())
    gap = mean - report.accuracy
    verdict = "as it should be" if abs(gap) < 0.01 else "too sure of itself" if gap > 0 else "better than it says"
    return (
        "Bars are the accuracy of faces grouped by stated confidence; of answers given with 80% confidence, 80% should "
        f"be right. On average it states {mean:.1%} and is right on {report.accuracy:.1%}: {verdict}."
    )


def _coverage_text(report: Report) -> str:
    return (
        "Who need not answer every face can leave out those it is least sure of: without the least confident 20%, "
        f"accuracy is {report.accuracy_at_coverage(0.8):.1%} instead of {report.accuracy:.1%}. The marks and the table say "
        "what a threshold on the confidence (<code>--min-confidence</code>) leaves; by class, every class counts the same."
    )


def _coverage(report: Report, pictures: Mapping[str, str]) -> str:
    rows = []
    for one in report.coverage:
        interval = "-" if one.accuracy_ci95 is None else f"{one.accuracy_ci95[0]:.1%} to {one.accuracy_ci95[1]:.1%}"
        shares = (one.balanced_coverage, one.balanced_accuracy)
        cells = [percent(one.coverage), percent(one.accuracy), interval, *map(percent, shares)]
        rows.append(
            f'<tr><th scope="row">{one.min_confidence:.1f}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    heads = ("Threshold", "Answered", "Right", "95% interval", "By class", "Right")
    table = scrolling_table("".join(f'<th scope="col">{text}</th>' for text in heads), rows)
    return f'<div class="pair">{pictures["coverage"]}{table}</div>'


def _duplicates(report: Report) -> tuple[str, str]:
    distinct = report.without_duplicates
    if distinct is None:
        return "It was not looked for pictures that occur twice, so there is no figure without them.", ""
    text = (
        f"{report.n - distinct.n:,} of the faces stand, pixel for pixel, in an earlier split or earlier in this one. "
        "A model can know these by heart, so the honest figure is the one without them."
    )
    rows = [
        f'<tr><th scope="row">{name}</th><td>{n:,}</td><td>{accuracy:.1%}</td><td>{f1:.3f}</td></tr>'
        for name, n, accuracy, f1 in (
            ("All faces", report.n, report.accuracy, report.macro_f1),
            ("Without duplicates", distinct.n, distinct.accuracy, distinct.macro_f1),
        )
    ]
    head = "".join(f'<th scope="col">{text}</th>' for text in ("", "Faces", "Accuracy", "Macro-F1"))
    return text, scrolling_table(head, rows)
