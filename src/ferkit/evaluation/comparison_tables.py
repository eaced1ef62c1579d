"""A comparison as tables on a terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.errors import count
from ferkit.evaluation.comparison import Comparison, Pair

_MOST_CLASHES = 10


def tables(found: Comparison) -> Group:
    """All of a comparison, the verdict first."""
    a, b = found.a, found.b
    views = f", {a.tta} views" if a.tta else ""
    where = f"{a.split} by the voters' first choice" if a.truth == "votes" else a.split
    parts: list[RenderableType] = [
        Text(f"A: {a.model}\nB: {b.model}\non {where}: {count(a.n, 'face')}{views}", style="bold"),
        "",
        Text(found.verdict),
        "",
        _figures(found),
        "",
        _quarters(found),
        "",
        _per_class(found),
    ]
    if a.note:
        parts += ["", Text(a.note)]
    return Group(*parts, "", _clashes(found))


def points(share: float) -> str:
    return f"{100 * share:+.1f}"


def p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def macro_f1_range(found: Comparison) -> str:
    if found.macro_f1_interval is None:
        return "-"
    low, high = found.macro_f1_interval
    return f"{low:+.3f} to {high:+.3f}"


def _plain_table(first: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _figures(found: Comparison) -> Table:
    table = _plain_table("", "A", "B", "B less A", "95% interval", "p")
    table.add_row("accuracy", *_cells(found.overall, found.overall.p))
    distinct = found.without_duplicates
    if distinct:
        table.add_row(f"  of {count(distinct.n, 'distinct face')}", *_cells(distinct, distinct.p))
    f1 = found.a.macro_f1, found.b.macro_f1
    table.add_row("macro-F1", *(f"{one:.3f}" for one in f1), f"{f1[1] - f1[0]:+.3f}", macro_f1_range(found), "")
    for name, style in (("nll", "{:.3f}"), ("ece", "{:.1%}")):
        values = getattr(found.a, name), getattr(found.b, name)
        gap = f"{values[1] - values[0]:+.3f}" if name == "nll" else points(values[1] - values[0])
        table.add_row(_NAMES[name], *(style.format(one) for one in values), gap, "", "")
    return table


_NAMES = {"nll": "log loss (nll)", "ece": "calibration error (ECE)"}


def _cells(pair: Pair, p: float) -> list[str]:
    low, high = pair.interval
    shares = [f"{one:.1%}" for one in pair.accuracies]
    return [*shares, points(pair.difference), f"{points(low)} to {points(high)}", p_value(p)]


def _quarters(found: Comparison) -> Table:
    pair = found.judged
    table = _plain_table(found.judged_name, "B right", "B wrong")
    table.add_row("A right", f"{pair.both:,}", f"{pair.only_a:,}")
    table.add_row("A wrong", f"{pair.only_b:,}", f"{pair.neither:,}")
    return table


def _per_class(found: Comparison) -> Group:
    table = _plain_table("class", "faces", "A finds", "B finds", "B less A", "95% interval", "p")
    for name, (pair, p) in found.per_class.items():
        # The name comes from the data: as Text, its brackets are no markup.
        table.add_row(Text(name), f"{pair.n:,}", *_cells(pair, p), style="bold" if pair.differs(p) else "")
    tests = count(len(found.per_class), "test")
    title = f"Of the faces of each class. p is corrected for {tests} (Holm), the intervals are not."
    return Group(Text(title, style="dim"), table)


def _clashes(found: Comparison) -> Group:
    kappa = "" if found.kappa is None else f" (kappa {found.kappa:.2f})"
    title = f"The same answer on {found.agreement:.1%} of the faces{kappa}. Where they differ most often:"
    table = _plain_table("A says", "faces", "A right", "B right", "none")
    table.columns[0].header = "A says, B says"
    for one in found.clashes[:_MOST_CLASHES]:
        rest = one.n - one.a_right - one.b_right
        table.add_row(Text(f"{one.a}, {one.b}"), f"{one.n:,}", f"{one.a_right:,}", f"{one.b_right:,}", f"{rest:,}")
    return Group(Text(title, style="dim"), table)
