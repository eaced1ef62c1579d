"""An evaluation as tables on a terminal, and several side by side."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.wording import count

if TYPE_CHECKING:
    from ferkit.evaluation import Report

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
