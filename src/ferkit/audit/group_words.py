"""A group report in words and as tables on a terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.audit.gaps import Gap, Interval
from ferkit.audit.groups import FEW, Comparison, GroupReport, GroupScores

# What the page, the terminal and the docs say alike.
NEVER_GUESSED = "Groups are those of the table; ferkit never guesses who belongs to which from a face."


def tables(report: GroupReport) -> Group:
    """One table per column, and what can be concluded from it."""
    parts: list[RenderableType] = []
    for one in report.comparisons:
        parts += [Text(f"Groups by {one.column}", style="bold"), "", _table(one), "", Text(verdict(one)), ""]
    return Group(*parts, Text(f"{report.note} {NEVER_GUESSED}", style="dim"))


def verdict(comparison: Comparison) -> str:
    """What may be concluded from the figures of one column, and what may not."""
    gap, same_mix = comparison.gap, comparison.same_mix_gap
    small = [group.name for group in comparison.groups if group.small]
    said = []
    if gap is None:
        said.append(f"Fewer than two groups have {FEW} faces, so nothing can be concluded about gaps.")
    else:
        low, high = gap.difference_ci95
        said.append(
            f"Widest gap{' that is more than chance' if gap.clear else ''}: {gap.better} over {gap.worse} by "
            f"{_points(gap.difference)} (95% interval {100 * low:.1f} to {100 * high:.1f}), {_chance(gap)}."
        )
        if not gap.clear:
            said.append(
                f"That is no proof that they are alike: between these two a gap below {_points(gap.detectable)} could "
                "easily go unseen."
            )
    if same_mix is not None:
        with_all = f" (without {', '.join(comparison.left_out)})" if comparison.left_out else ""
        said.append(
            f"With the same mix of classes{with_all}: {same_mix.better} over {same_mix.worse} by "
            f"{_points(same_mix.difference)}, {_chance(same_mix)}."
        )
    if small:
        said.append(f"Too few faces (below {FEW}) for any conclusion: {', '.join(small)}.")
    return " ".join(said)


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _chance(gap: Gap) -> str:
    return f"{'more than chance explains' if gap.clear else 'which chance alone may make'} ({p_value(gap.p)})"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _table(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("group", overflow="fold")
    for heading in ("faces", "accuracy", "same mix", "macro-F1", "ECE", "by chance", "stated"):
        table.add_column(heading, justify="right")
    for group in comparison.groups:
        name = Text(f"{group.name}\n").append("too few" if group.small else "", "dim")
        table.add_row(name, f"{group.n:,}", *_figures(group), style="dim" if group.small else "")
    return table


def _figures(group: GroupScores) -> list[Text | str]:
    shares: list[tuple[float | None, Interval | None]] = [
        (group.accuracy, group.accuracy_ci95),
        (group.same_mix_accuracy, group.same_mix_accuracy_ci95),
        (group.macro_f1, group.macro_f1_ci95),
        (group.ece, group.ece_ci95),
    ]
    cells: list[Text | str] = []
    for value, interval in shares:
        if value is None or interval is None:
            cells.append("-")
            continue
        between = f"{100 * interval[0]:.0f}-{interval[1]:.0%}"
        cells.append(Text(f"{value:.1%}\n").append(between, "dim"))
    return [*cells, f"{group.ece_by_chance:.1%}", f"{group.mean_confidence:.1%}"]
