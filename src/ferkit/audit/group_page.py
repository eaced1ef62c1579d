"""A group report as a section of the report page: what can be concluded, a plot and a table for each column."""

import re
from functools import partial
from html import escape
from pathlib import Path

from ferkit.audit.gaps import Interval
from ferkit.audit.group_words import NEVER_GUESSED, by_person, people_in, verdict
from ferkit.audit.groups import Comparison, GroupReport, GroupScores
from ferkit.plots import Theme
from ferkit.plots import audits as plots
from ferkit.report.parts import both_themes, scrolling_table, section

_TEXT = (
    "Small groups and different emotions make accuracies differ by themselves. So every figure has its 95% interval, the "
    "widest gap is compared with what shuffled groups show, and the hollow mark is the accuracy if every group had the same "
    "mix of classes. An ECE of few faces is too large: beside it stands what a perfectly calibrated model would show, and "
    "its interval has that taken off."
)
_BY_FACE = "Every face counts as another person: where people have several, intervals are too narrow and p too small."
_BY_PERSON = "People are compared, each with all their faces: several faces of one person say less than as many people."


def section_of(report: GroupReport, figures: Path) -> str:
    """HTML of the section. figures: the folder for the plots."""
    columns = enumerate(report.comparisons, 1)
    body = "".join(_column(one, report.accuracy, figures, f"groups-{number}") for number, one in columns)
    note = f'<p class="context">{escape(report.note)} {escape(NEVER_GUESSED)}</p>'
    counted = _BY_PERSON if any(by_person(one) for one in report.comparisons) else _BY_FACE
    return section("As good for everybody?", f"{_TEXT} {counted}", body + note, wide=True)


def _column(comparison: Comparison, overall: float, figures: Path, name: str) -> str:
    # Names of columns may differ in nothing that every file system can write, so files have numbers too.
    name = f"{name}-{re.sub(r'[^a-z0-9]+', '-', comparison.column)[:40].strip('-')}".rstrip("-")
    rows = [
        plots.GroupRow(
            name=one.name,
            n=one.n,
            accuracy=one.accuracy,
            low=one.accuracy_ci95[0],
            high=one.accuracy_ci95[1],
            same_mix=one.same_mix_accuracy,
            confidence=one.mean_confidence,
            small=one.small,
        )
        for one in comparison.groups
    ]
    alt = f"Accuracy by {escape(comparison.column, quote=True)} with intervals; the table has the same figures."
    picture = both_themes(figures, name, partial(_draw, rows, overall), alt)
    return f"<h3>By {escape(comparison.column)}</h3><p>{escape(verdict(comparison))}</p>{picture}{_table(comparison)}"


def _draw(rows: list[plots.GroupRow], overall: float, path: Path, theme: Theme) -> None:
    plots.groups(rows, overall, path, theme=theme)


def _table(comparison: Comparison) -> str:
    heads = ("Group", "Faces", "Accuracy", "Same mix", "Macro-F1", "ECE", "By chance", "Confidence")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return scrolling_table(head, [_row(one) for one in comparison.groups])


def _row(group: GroupScores) -> str:
    few = "<small>too few</small>" if group.small else ""
    cells = [
        f"{group.n:,}<small>{people_in(group)}</small>",
        _with_interval(group.accuracy, group.accuracy_ci95),
        _with_interval(group.same_mix_accuracy, group.same_mix_accuracy_ci95),
        _with_interval(group.macro_f1, group.macro_f1_ci95),
        _with_interval(group.ece, group.ece_ci95),
        f"{group.ece_by_chance:.1%}",
        _with_interval(group.mean_confidence, group.mean_confidence_ci95),
    ]
    return f'<tr><th scope="row">{escape(group.name)}{few}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _with_interval(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return "-" if value is None else f"{value:.1%}"
    return f"{value:.1%}<small>{100 * interval[0]:.1f} to {100 * interval[1]:.1f}</small>"
