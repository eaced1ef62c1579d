"""A comparison as one page: the verdict, what differs by class, what is called what, and the surest disagreements."""

import json
from html import escape
from pathlib import Path

from ferkit._support.files import write_atomically
from ferkit.errors import count
from ferkit.evaluation import galleries as plots
from ferkit.evaluation.comparison import Comparison, Pair
from ferkit.evaluation.comparison_tables import macro_f1_range, p_value, points
from ferkit.models import INTENDED_USE
from ferkit.render import both_themes, class_name, face_tile, scrolling_table, section, table_head, table_row
from ferkit.render.document import document, percent

_MOST_CLASHES = 12
_FACES = 32

_CLASSES_TEXT = (
    "Of the faces that carry a label, the share that each model finds. A filled mark is more than chance, when so many "
    "classes are looked at (Holm's correction, p below 5%). The intervals are each class's own, not corrected."
)
_FACES_TEXT = (
    "The faces on which both models are sure, and differ: the label, then what each calls it. The strip has both answers' "
    "colours. Some of the labels are wrong themselves."
)


def write_page(found: Comparison, folder: Path) -> Path:
    """Write `index.html`, which holds everything, with `comparison.json` and the plots in `figures/` for use elsewhere.

    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    folder = Path(folder)
    classes = both_themes(
        folder / "figures",
        "classes",
        lambda path, theme: plots.differences(_rows(found), path, theme=theme),
        "Difference of the two models by class, with 95% intervals; the same figures stand in the table.",
    )
    shown = [(one.a, one.b, one.n, one.a_right, one.b_right) for one in found.clashes[:_MOST_CLASHES]]
    clashes = both_themes(
        folder / "figures",
        "clashes",
        lambda path, theme: plots.clashes(shown, path, theme=theme),
        "What the two models call the faces on which they differ; the same counts stand in the table.",
    )
    title = f"{found.a.model} and {found.b.model} on {found.a.split}"
    views = f", each seen with {escape(found.a.tta)}" if found.a.tta else ""
    truth = ", right is what most voters saw" if found.a.truth == "votes" else ""
    about = (
        f"A is <strong>{escape(found.a.model)}</strong>, B is <strong>{escape(found.b.model)}</strong>; "
        f"{count(found.a.n, 'face')}{views}{truth}."
    )
    sections = [
        section("In short", escape(found.verdict), _tiles(found) + _context(found), wide=True),
        section("The faces that decide", f"{_QUARTERS} Counted over {found.judged_name}.", _quarters(found.judged)),
        section("What it may be used for", escape(INTENDED_USE), "", kind="notice"),
        section("Figures", "", _figures(found), wide=True),
        section("Each class", _CLASSES_TEXT, f'<div class="pair">{classes}{_per_class(found)}</div>', wide=True),
        section(
            "Where they differ", _agreement(found), f'<div class="pair">{clashes}{_clashes(found)}</div>', wide=True
        ),
        section("The surest disagreements", _FACES_TEXT, _faces(found), wide=True),
    ]
    page = document(title, about, sections)
    with write_atomically(folder / "comparison.json") as draft:
        draft.write_text(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with write_atomically(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _rows(found: Comparison) -> list[plots.Difference]:
    whole = found.judged
    name = "all faces" if whole.n == found.overall.n else "distinct faces"
    rows = [plots.Difference(name, whole.n, whole.difference, *whole.interval, whole.differs())]
    for name, (pair, p) in found.per_class.items():
        rows.append(plots.Difference(name, pair.n, pair.difference, *pair.interval, pair.differs(p)))
    return rows


def _tiles(found: Comparison) -> str:
    (low, high), pair = found.judged.interval, found.judged
    shares = [f"{share:.1%}" for share in found.overall.accuracies]
    copies = "" if pair.n == found.overall.n else f"Over {found.judged_name}. "
    ends = [f"{one.accuracy_ci95[0]:.1%} to {one.accuracy_ci95[1]:.1%}" for one in (found.a, found.b)]
    tiles = [
        ("Accuracy of A", shares[0], f"95% interval: {ends[0]}."),
        ("Accuracy of B", shares[1], f"95% interval: {ends[1]}."),
        (
            "B less A",
            f"{points(pair.difference)} points",
            f"{copies}95% interval: {points(low)} to {points(high)} (Tango 1998), narrower than the two beside it let expect, "
            "since the faces are the same.",
        ),
        (
            "McNemar's test",
            f"p {p_value(pair.p)}" if pair.p < 0.0001 else f"p = {p_value(pair.p)}",
            f"{copies}The chance of so uneven a split, or a more uneven one, if both were equally good (mid-p).",
        ),
    ]
    cells = "\n".join(
        f"<div><dt>{name}</dt><dd><strong>{value}</strong><small>{text}</small></dd></div>"
        for name, value, text in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _context(found: Comparison) -> str:
    said = [
        "The test speaks of these two models and of faces like these. It knows nothing of luck in training: another seed "
        "of the same recipe may end elsewhere (<code>ferkit train --seeds</code>)."
    ]
    if found.a.note:
        said.append(escape(found.a.note))
    return f'<p class="context">{" ".join(said)}</p>'


_QUARTERS = (
    "Faces that both get right, or both wrong, say nothing about which model is better. McNemar's test looks at the other two "
    "corners only."
)


def _quarters(pair: Pair) -> str:
    def row(name: str, *counts: int) -> str:
        cells = "".join(f"<td>{count:,}<small>{percent(count / pair.n)}</small></td>" for count in counts)
        return f'<tr><th scope="row">{name}</th>{cells}</tr>'

    rows = [row("A right", pair.both, pair.only_a), row("A wrong", pair.only_b, pair.neither)]
    return scrolling_table(table_head("", "B right", "B wrong"), rows)


def _figures(found: Comparison) -> str:
    def paired_row(name: str, pair: Pair) -> str:
        low, high = pair.interval
        cells = [f"{pair.n:,}", *map(percent, pair.accuracies), points(pair.difference)]
        return table_row(name, *cells, f"{points(low)} to {points(high)}", p_value(pair.p))

    rows = [paired_row("Accuracy", found.overall)]
    if found.without_duplicates:
        rows.append(paired_row("Accuracy without duplicates", found.without_duplicates))
    n = f"{found.a.n:,}"
    f1 = found.a.macro_f1, found.b.macro_f1
    rows.append(
        table_row("Macro-F1", n, *(f"{one:.3f}" for one in f1), f"{f1[1] - f1[0]:+.3f}", macro_f1_range(found), "-")
    )
    for name, key in (("Log loss, in nats", "nll"), ("Calibration error (ECE)", "ece")):
        a, b = getattr(found.a, key), getattr(found.b, key)
        rows.append(table_row(name, n, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", "-", "-"))
    return scrolling_table(table_head("", "Faces", "A", "B", "B less A", "95% interval", "p"), rows)


def _per_class(found: Comparison) -> str:
    rows = []
    for name, (pair, p) in found.per_class.items():
        cells = [f"{pair.n:,}", *map(percent, pair.accuracies), points(pair.difference), p_value(p)]
        rows.append(table_row(class_name(name), *cells))
    return scrolling_table(table_head("Class", "Faces", "A finds", "B finds", "B less A", "p"), rows)


def _agreement(found: Comparison) -> str:
    kappa = (
        ""
        if found.kappa is None
        else f" Beyond what chance would give, that is {found.kappa:.2f} of 1 (Cohen's kappa)."
    )
    return f"Both give the same answer to {found.agreement:.1%} of the faces.{kappa} Below, the most frequent of the others."


def _clashes(found: Comparison) -> str:
    rows = []
    for one in found.clashes[:_MOST_CLASHES]:
        cells = [f"{count:,}" for count in (one.n, one.a_right, one.b_right, one.n - one.a_right - one.b_right)]
        names = f'{class_name(one.a)}</th><th scope="row" style="text-align:left">{class_name(one.b)}'
        rows.append(table_row(names, *cells))
    head = '<th scope="col">A says</th><th scope="col" style="text-align:left">B says</th>'
    return scrolling_table(head + table_head("Faces", "A right", "B right", "Neither"), rows)


def _faces(found: Comparison) -> str:
    tiles = []
    for index in found.surest_clashes[:_FACES]:
        label = found.a.classes[int(found.a.faces.labels[index])]
        answers = [found.a.classes[int(answers[index])] for answers in found.answers]
        sure = [f"{one.probabilities[index].max():.0%}" for one in (found.a, found.b)]
        said = [f"{letter}: {escape(name)} {p}" for letter, name, p in zip("AB", answers, sure, strict=True)]
        alt = f"Face labelled {escape(label)}; {', '.join(said)}"
        tiles.append(face_tile(found.a.faces.images[index], answers, alt, escape(label), "<br>".join(said)))
    return f'<ul class="faces">{"".join(tiles)}</ul>' if tiles else "<p>There are none.</p>"
