"""How a model came to be, as a report page shows it: the epochs of its run, their speed, its card.

The galleries of a report page: the mistakes a model was surest of, and the faces it hesitated over most.

An evaluation as one web page that explains its own figures: no script, no other host, readable on a phone.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ferkit._support.files import write_atomically
from ferkit.data import SPLIT_ALIASES
from ferkit.errors import FerkitError, count
from ferkit.evaluation import figures as plots
from ferkit.evaluation import galleries, metrics
from ferkit.evaluation.report import Addition, Report, to_document
from ferkit.labels import EMOTIONS
from ferkit.models import INTENDED_USE
from ferkit.render import both_themes, class_name, face_tile, number, scrolling_table, section
from ferkit.render.document import document, percent

History = Sequence[Mapping[str, float]]

CURVES_TEXT = (
    "Each epoch shows every training face once. Validation faces are never trained on: where their curve stops "
    "improving while training goes on, the network learns its faces by heart. The mark is the epoch that was kept."
)


def has_speed(history: History) -> bool:
    return any("faces_per_second" in row for row in history)


def trained(history: History, card: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Curves beside speed and facts; one below the other on a phone."""
    rows = [
        f'<tr><th scope="row">{name}</th><td class="words">{escape(value)}</td></tr>'
        for name, value in _facts(history, card)
    ]
    facts = scrolling_table("", rows) if rows else ""
    return f'<div class="halves">{pictures["curves"]}<div>{pictures.get("speed", "")}{facts}</div></div>'


def _facts(history: History, card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    validated = [row for row in history if "val_accuracy" in row]
    best = max(validated, key=lambda row: row["val_accuracy"], default=None)
    yield "Epochs", f"{len(history)}" + (f", the best is {best['epoch']:.0f}" if best else "")
    if seconds := [row["seconds"] for row in history if "seconds" in row]:
        yield "Time", f"{duration(sum(seconds))} of training steps; validation and saving come on top"
    if speeds := [row["faces_per_second"] for row in history if "faces_per_second" in row]:
        yield "Speed", f"{median(speeds):,.0f} faces/s (median), {min(speeds):,.0f} to {max(speeds):,.0f}"
    training = card.get("training")
    sittings = training.get("sessions", training.get("sittings")) if isinstance(training, Mapping) else None
    if isinstance(sittings, list) and sittings:
        places = Counter(_place(one) for one in sittings if isinstance(one, Mapping))
        said = "; ".join(f"{n} on {place}" if len(places) > 1 else f"on {place}" for place, n in places.items())
        yield "Sessions", f"{len(sittings)}, {said}" if said else f"{len(sittings)}"


def _place(sitting: Mapping[str, Any]) -> str:
    cores = sitting.get("cpu_count")
    return f"{sitting.get('backend', 'an unknown backend')}" + (f" with {cores} cores" if cores else "")


def duration(seconds: float) -> str:
    """For people: two units are enough.

    >>> duration(3534.5)
    '58 min 54 s'
    >>> duration(26 * 3600)
    '26 h 0 min'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def model_card(card: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _flat(card))
    return f'<details><summary>All entries</summary><dl class="card">{rows}</dl></details>'


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in entry.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for place, one in enumerate(value, 1):
                yield from _flat(one if isinstance(one, Mapping) else {"entry": one}, f"{name} {place}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)


COUNT = 24
# Where the first answer leads by less, the text counts who was right.
_CLOSE = 0.1

MISTAKES_TEXT = (
    "Label, then answer; the strip has the answer's colour. Some of these faces are mislabelled or show more than one "
    "expression: look before you blame the model."
)


def mistakes(report: Report) -> str:
    tiles = []
    for index in metrics.confident_mistakes(report.probabilities, report.faces.labels, COUNT):
        true = escape(_label(report, index))
        answer = report.classes[int(report.probabilities[index].argmax())]
        confidence = f"{report.probabilities[index].max():.0%}"
        alt = f"Face labelled {true}, called {escape(answer)} with {confidence}"
        tiles.append(
            face_tile(
                report.faces.images[index], [answer], alt, f"{true} &rarr; {escape(answer)}", f"{confidence} sure"
            )
        )
    return f'<ul class="faces">{"".join(tiles)}</ul>' if tiles else "<p>There are none.</p>"


def doubtful(report: Report) -> str:
    tiles = []
    for index in metrics.most_doubtful(report.probabilities, COUNT):
        ranked = np.argsort(-report.probabilities[index], kind="stable")[:2]
        answers = [report.classes[k] for k in ranked]
        caption = " or ".join(map(escape, answers))
        first, second = (f"{report.probabilities[index, k]:.0%}" for k in ranked)
        true = escape(_label(report, index))
        alt = f"Face labelled {true}, called {caption} with {first} and {second}"
        tiles.append(
            face_tile(report.faces.images[index], answers, alt, caption, f"{first} and {second}<br>label: {true}")
        )
    return f'<ul class="faces">{"".join(tiles)}</ul>'


def doubtful_text(report: Report) -> str:
    text = "First and second answer, which are almost equally likely here, and the label; the strip has both colours."
    close = metrics.answer_gaps(report.probabilities) < _CLOSE
    if not close.any():
        return text
    probabilities, labels = report.probabilities[close], report.faces.labels[close]
    without_first = probabilities.copy()
    np.put_along_axis(without_first, probabilities.argmax(axis=1)[:, None], -1, axis=1)
    first, second = (metrics.accuracy(one, labels) for one in (probabilities, without_first))
    return (
        f"{text} Of all {report.n:,} faces, {close.sum():,} have less than {_CLOSE * 100:.0f} points between the two; "
        f"there the first is right on {first:.0%}, the second on {second:.0%}."
    )


def _label(report: Report, index: int) -> str:
    return report.classes[int(report.faces.labels[index])]


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
        if has_speed(history):
            draw["speed"] = lambda path, theme: plots.training_speed(history, path, theme=theme)
    pictures = {name: both_themes(folder / "figures", name, plot, _ALT[name]) for name, plot in draw.items()}
    drawers = {"mistakes": galleries.mistakes_gallery, "doubtful": galleries.doubtful_gallery}
    for name, gallery in drawers.items():
        gallery(report.faces, probabilities, folder / "figures" / f"{name}.png", count=COUNT)

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
        body = trained(history, card or {}, pictures)
        yield section("How it was trained", CURVES_TEXT, body, wide=True)
    text, gallery = MISTAKES_TEXT, mistakes(report)
    yield section("The mistakes it was surest of", text, gallery, wide=True)
    text, gallery = doubtful_text(report), doubtful(report)
    yield section("The faces it hesitated over most", text, gallery, wide=True)
    if card:
        yield section("Model card", "What the model folder says about itself.", model_card(card), wide=True)


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
