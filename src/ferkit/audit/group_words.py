"""A group report in words and as tables on a terminal."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.audit.gaps import Gap, Interval
from ferkit.audit.groups import FEW, Comparison, GroupReport, GroupScores
from ferkit.audit.people import FEW_PEOPLE
from ferkit.wording import count

# What the page, the terminal and the docs say alike.
NEVER_GUESSED = "Groups are those of the table; ferkit never guesses who belongs to which from a face."


def tables(report: GroupReport) -> Group:
    """One table per column, and what can be concluded from it."""
    parts: list[RenderableType] = []
    for one in report.comparisons:
        parts += [
            Text(f"Groups by {one.column}: {report.model} on {report.split}", style="bold"),
            "",
            _table(one),
            "",
            Text(verdict(one)),
            "",
        ]
    return Group(*parts, Text(f"{report.note} {NEVER_GUESSED}", style="dim"))


def verdict(comparison: Comparison) -> str:
    """What may be concluded from the figures of one column, and what may not."""
    gap, same_mix = comparison.gap, comparison.same_mix_gap
    small = [group.name for group in comparison.groups if group.small]
    said = []
    if gap is None:
        said.append(f"Fewer than two groups have {_enough(comparison, 'and')}, so nothing can be concluded about gaps.")
    else:
        low, high = gap.difference_ci95
        kind = "Widest gap that is more than chance" if gap.clear else "Widest gap"
        ends = f"95% interval {100 * low:.1f} to {100 * high:.1f}"
        said.append(f"{kind}: {_over(gap)} ({ends}; {p_value(gap.p)}).")
        if not gap.clear:
            said.append(
                "Chance alone may make such a gap, which is no proof that they are alike: between these two a gap below "
                f"{_points(gap.detectable)} could easily go unseen."
            )
    if same_mix is not None:
        without = f" (without {', '.join(comparison.left_out)})" if comparison.left_out else ""
        chance = "more than chance" if same_mix.clear else "chance may make it"
        said.append(f"With the same mix of classes{without}: {_over(same_mix)} ({p_value(same_mix.p)}: {chance}).")
    if comparison.without:
        said.append(f"{count(comparison.without, 'face')} in no group.")
    if small:
        said.append(f"Too few for any conclusion (below {_enough(comparison, 'or')}): {', '.join(small)}.")
    return " ".join(said)


def by_person(comparison: Comparison) -> bool:
    """Whether the table said who is who."""
    return any(group.people is not None for group in comparison.groups)


def people_in(group: GroupScores) -> str:
    """How many people, if the table said who is who."""
    if group.people is None:
        return ""
    return f"{group.people:,} {'person' if group.people == 1 else 'people'}"


def _enough(comparison: Comparison, link: str) -> str:
    """What a group must have at least."""
    return f"{FEW} faces {link} {FEW_PEOPLE} people" if by_person(comparison) else f"{FEW} faces"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _over(gap: Gap) -> str:
    return f"{gap.better} over {gap.worse} by {_points(gap.difference)}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _table(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("group", overflow="fold")
    for heading in ("faces", "accuracy", "same mix", "macro-F1", "ECE", "by chance", "stated"):
        table.add_column(heading, justify="right", no_wrap=" " not in heading)
    for group in comparison.groups:
        name = Text(f"{group.name}\n").append("too few" if group.small else "", "dim")
        faces = Text(f"{group.n:,}\n").append(people_in(group), "dim")
        table.add_row(name, faces, *_figures(group), style="dim" if group.small else "")
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
            cells.append("-" if value is None else f"{value:.1%}")
            continue
        between = f"{100 * interval[0]:.0f}-{interval[1]:.0%}"
        cells.append(Text(f"{value:.1%}\n").append(between, "dim"))
    return [*cells, f"{group.ece_by_chance:.1%}", f"{group.mean_confidence:.1%}"]
