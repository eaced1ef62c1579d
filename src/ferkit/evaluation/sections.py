"""A crossing as a section of the report page.

Robustness as a section of the report page, and of one or several models as a plot.

A group report in words and as tables on a terminal.

A group report as a section of the report page: what can be concluded, a plot and a table for each column.
"""

import re
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ferkit.errors import count
from ferkit.evaluation import figures as plots
from ferkit.evaluation.cross_dataset import Crossing, cells, sentence
from ferkit.evaluation.group_statistics import FEW_PEOPLE, Gap, Interval
from ferkit.evaluation.groups import FEW, Comparison, GroupReport, GroupScores
from ferkit.evaluation.robustness import DEGRADATIONS, Level, Robustness
from ferkit.render import LIGHT, Theme, both_themes, class_name, scrolling_table, section, table_head, table_row
from ferkit.render.document import percent


def cross_dataset_section(found: Crossing) -> str:
    """Which classes match, both figures, and each class, as HTML of `report.parts.section`."""
    heads = table_head("Choice among", "Accuracy", "95% interval", "Balanced", "Macro-F1")
    both = scrolling_table(heads, [table_row(name, *cells(report)) for name, report in found.choices()])
    mapping = f"<details><summary>Which class is which</summary>{_mapping(found)}</details>"
    body = f'{both}<div style="margin-top: 18px">{_per_class(found)}</div>{mapping}'
    return section("Classes that data and model share", escape(sentence(found.matched)), body, wide=True)


def _mapping(found: Crossing) -> str:
    matched = found.matched
    rows = [
        table_row(escape(theirs), f"{matched.counts[theirs]:,}", class_name(ours))
        for theirs, ours in matched.mapped.items()
    ]
    rows += [table_row(escape(name), f"{n:,}", "left out") for name, n in matched.left_out.items()]
    rows += [table_row("-", "0", class_name(name)) for name in matched.absent]
    return scrolling_table(table_head("In the data", "Faces", "In the model"), rows)


def _per_class(found: Crossing) -> str:
    rows = []
    for name, one in found.everything.per_class.items():
        if not one.n:
            continue
        shares = [one.recall, one.precision]
        if found.restricted:
            among = found.restricted.per_class[name]
            shares += [among.recall, among.precision]
        rows.append(table_row(class_name(name), f"{one.n:,}", *map(percent, shares)))
    heads = ["Class", "Faces", "Recall", "Precision"]
    if found.restricted:
        heads += ["Recall among shared", "Precision among shared"]
    return scrolling_table(table_head(*heads), rows)


def robustness_section(found: Robustness, figures: Path) -> str:
    """HTML of the section. figures: the folder for the plot."""
    alt = "Accuracy and stated confidence against the strength of each degradation; the table has the same figures."
    picture = both_themes(figures, "robustness", lambda path, theme: plot([found], path, theme=theme), alt)
    return section(
        "When pictures get worse",
        _text(found),
        f'<div class="halves">{picture}{_robustness_table(found)}</div>',
        wide=True,
    )


def plot(found: Sequence[Robustness], path: Path, *, theme: Theme = LIGHT) -> None:
    """Accuracy of one or several models, at most four, against the strength of each degradation."""
    panels = []
    for name, degradation in DEGRADATIONS.items():
        # The clean face stands where its strength belongs: in the middle of those that go both ways.
        strengths = degradation.strengths
        place = sum(one < degradation.clean for one in strengths) if min(strengths) < 0 else 0
        ticks = [f"{one:g}" for one in strengths]
        ticks.insert(place, "clean")
        panels.append(plots.Panel(name, degradation.unit, ticks, {one.model: _line(one, name, place) for one in found}))
    plots.degradations(panels, path, theme=theme)


def _line(found: Robustness, name: str, place: int) -> tuple[list[float], list[float], list[float], list[float]]:
    levels: list[Level] = [*found.levels[name]]
    levels.insert(place, found.clean)
    return (
        [one.accuracy for one in levels],
        [one.accuracy_ci95[0] for one in levels],
        [one.accuracy_ci95[1] for one in levels],
        [one.mean_confidence for one in levels],
    )


def _text(found: Robustness) -> str:
    low, high = found.relative_accuracy_ci95
    worst = min(found.levels, key=found.mean_of)
    return (
        f"The same {count(found.n, 'face')}, made worse on purpose. On the mean of all degradations {found.mean_accuracy:.1%} are "
        f"right instead of {found.clean.accuracy:.1%}: {found.relative_accuracy:.1%} of the clean accuracy is left (95% "
        f"interval {low:.1%} to {high:.1%}; after Hendrycks and Dietterich 2019). It bears {escape(worst)} worst. Where the "
        "stated confidence stays above the accuracy, the model does not notice how bad the picture is."
    )


def _robustness_table(found: Robustness) -> str:
    widest = max(len(levels) for levels in found.levels.values())
    rows = []
    for name, levels in found.levels.items():
        cells = [f"<td>{one.accuracy:.0%}<small>{one.strength:g}</small></td>" for one in levels]
        cells += ["<td></td>"] * (widest - len(levels))
        rows.append(
            f'<tr><th scope="row">{escape(name)}<small>{escape(DEGRADATIONS[name].unit)}</small></th>'
            f"<td><strong>{found.mean_of(name):.1%}</strong></td>{''.join(cells)}</tr>"
        )
    heads = ("Degradation", "Mean", *(str(number) for number in range(1, widest + 1)))
    return scrolling_table("".join(f'<th scope="col">{text}</th>' for text in heads), rows)


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


_TEXT = (
    "Small groups and different emotions make accuracies differ by themselves. So every figure has its 95% interval, the "
    "widest gap is compared with what shuffled groups show, and the hollow mark is the accuracy if every group had the same "
    "mix of classes. An ECE of few faces is too large: beside it stands what a perfectly calibrated model would show, and "
    "its interval has that taken off."
)
_BY_FACE = "Every face counts as another person: where people have several, intervals are too narrow and p too small."
_BY_PERSON = "People are compared, each with all their faces: several faces of one person say less than as many people."


def group_section(report: GroupReport, figures: Path) -> str:
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
    return f"<h3>By {escape(comparison.column)}</h3><p>{escape(verdict(comparison))}</p>{picture}{_group_html_table(comparison)}"


def _draw(rows: list[plots.GroupRow], overall: float, path: Path, theme: Theme) -> None:
    plots.groups(rows, overall, path, theme=theme)


def _group_html_table(comparison: Comparison) -> str:
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
