"""Groups of people as a section of a report: what can be concluded, a plot and a table for each column."""

import re
from functools import partial
from pathlib import Path

from ferkit.errors import count
from ferkit.evaluation import comparison_figures as plots
from ferkit.evaluation.group_statistics import FEW_PEOPLE, Gap, Interval
from ferkit.evaluation.groups import FEW, Comparison, GroupReport, GroupScores
from ferkit.render import (
    Block,
    Cell,
    DataTable,
    Figure,
    Heading,
    Row,
    Section,
    Text,
    Theme,
    p_equals,
    percent,
    point_interval,
)

NEVER_GUESSED = "Groups come from the table; ferkit never infers them from a face."

_TEXT = (
    "Accuracies of small groups, and of groups with other emotions, differ by chance. So every metric has its 95% interval, "
    "the widest gap is compared with those of shuffled groups (permutation test), and the hollow mark is the accuracy if every "
    "group had the same mix of classes. The ECE of few faces is biased upwards: beside it is what a perfectly calibrated model "
    "would show, and its interval has that taken off."
)
_BY_FACE = (
    "Every face counts as another person: if people have several, intervals are too narrow and p-values too small."
)
_BY_PERSON = "People are the sampling unit, each with all their faces."
_COLUMNS = ("Group", "Faces", "Accuracy", "Same mix", "Macro-F1", "ECE", "ECE by chance", "Confidence")


def group_section(report: GroupReport) -> Section:
    """All columns of a table of groups."""
    unit = _BY_PERSON if any(by_person(one) for one in report.comparisons) else _BY_FACE
    blocks: list[Block] = [Text(f"{_TEXT} {unit}", detail=True)]
    for number, one in enumerate(report.comparisons, 1):
        # Names of columns may differ in nothing that every file system can write, so files have numbers too.
        slug = re.sub(r"[^a-z0-9]+", "-", one.column)[:40].strip("-")
        rows = [_plotted(group) for group in one.groups]
        figure = Figure(
            f"groups-{number}-{slug}".rstrip("-"),
            partial(_draw, rows, report.accuracy),
            f"Accuracy by {one.column} with intervals; the table has the same numbers.",
        )
        table = DataTable(_COLUMNS, tuple(map(_row, one.groups)))
        blocks += [Heading(f"By {one.column}"), Text(verdict(one)), figure, table]
    note = Text(f"{report.note} {NEVER_GUESSED}", quiet=True)
    return Section("Performance by group", (*blocks, note), wide=True, key=report.key, data=report.to_dict())


def verdict(comparison: Comparison) -> str:
    """What can be concluded from the metrics of one column, and what cannot."""
    gap, same_mix = comparison.gap, comparison.same_mix_gap
    small = [group.name for group in comparison.groups if group.small]
    said = []
    if gap is None:
        said.append(f"Fewer than two groups have {_enough(comparison, 'and')}, so nothing can be concluded about gaps.")
    else:
        kind = "Widest significant gap" if gap.significant else "Widest gap"
        said.append(f"{kind}: {_over(gap)} (95% interval {point_interval(gap.difference_ci95)}; {p_equals(gap.p)}).")
        if not gap.significant:
            said.append(
                "It is not statistically significant. This does not prove that the groups are equal: with this sample, a gap "
                f"below {_points(gap.detectable)} would often be missed."
            )
    if same_mix is not None:
        without = f" (without {', '.join(comparison.left_out)})" if comparison.left_out else ""
        significant = "significant" if same_mix.significant else "not significant"
        said.append(
            f"With the same mix of classes{without}: {_over(same_mix)} ({p_equals(same_mix.p)}, {significant})."
        )
    if comparison.without:
        said.append(f"{count(comparison.without, 'face')} in no group.")
    if small:
        said.append(f"Too few for any conclusion (below {_enough(comparison, 'or')}): {', '.join(small)}.")
    return " ".join(said)


def by_person(comparison: Comparison) -> bool:
    """Whether the table said who is who."""
    return any(group.people is not None for group in comparison.groups)


def _enough(comparison: Comparison, link: str) -> str:
    """What a group must have at least."""
    return f"{FEW} faces {link} {FEW_PEOPLE} people" if by_person(comparison) else f"{FEW} faces"


def _over(gap: Gap) -> str:
    return f"{gap.better} over {gap.worse} by {_points(gap.difference)}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} percentage points"


def _plotted(group: GroupScores) -> plots.GroupRow:
    return plots.GroupRow(
        name=group.name,
        n=group.n,
        accuracy=group.accuracy,
        low=group.accuracy_ci95[0],
        high=group.accuracy_ci95[1],
        same_mix=group.same_mix_accuracy,
        confidence=group.mean_confidence,
        small=group.small,
    )


def _draw(rows: list[plots.GroupRow], overall: float, path: Path, theme: Theme) -> None:
    plots.groups(rows, overall, path, theme=theme)


def _row(group: GroupScores) -> Row:
    people = "" if group.people is None else f"{group.people:,} {'person' if group.people == 1 else 'people'}"
    return (
        Cell(group.name, "too few" if group.small else ""),
        Cell(f"{group.n:,}", people),
        _with_interval(group.accuracy, group.accuracy_ci95),
        _with_interval(group.same_mix_accuracy, group.same_mix_accuracy_ci95),
        _with_interval(group.macro_f1, group.macro_f1_ci95),
        _with_interval(group.ece, group.ece_ci95),
        percent(group.ece_by_chance),
        _with_interval(group.mean_confidence, group.mean_confidence_ci95),
    )


def _with_interval(value: float | None, low_high: Interval | None) -> Cell:
    between = "" if value is None or low_high is None else f"{100 * low_high[0]:.0f} to {percent(low_high[1], 0)}"
    return Cell(percent(value), between)
