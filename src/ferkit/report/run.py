"""How a model came to be, as a report page shows it: the epochs of its run, their speed, its card."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from ferkit.report.parts import scrolling_table

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
    sittings = training.get("sittings") if isinstance(training, Mapping) else None
    if isinstance(sittings, list) and sittings:
        places = Counter(_place(one) for one in sittings if isinstance(one, Mapping))
        said = "; ".join(f"{n} on {place}" if len(places) > 1 else f"on {place}" for place, n in places.items())
        yield "Sittings", f"{len(sittings)}, {said}" if said else f"{len(sittings)}"


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
