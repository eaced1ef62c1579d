"""Robustness as a section of the report page, and of one or several models as a plot."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ferkit.audit.degradations import DEGRADATIONS
from ferkit.audit.robustness import Level, Robustness
from ferkit.plots import LIGHT, Theme
from ferkit.plots import audits as plots
from ferkit.report.parts import both_themes, scrolling_table, section
from ferkit.wording import count


def section_of(found: Robustness, figures: Path) -> str:
    """HTML of the section. figures: the folder for the plot."""
    alt = "Accuracy and stated confidence against the strength of each degradation; the table has the same figures."
    picture = both_themes(figures, "robustness", lambda path, theme: plot([found], path, theme=theme), alt)
    return section(
        "When pictures get worse", _text(found), f'<div class="halves">{picture}{_table(found)}</div>', wide=True
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


def _table(found: Robustness) -> str:
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
