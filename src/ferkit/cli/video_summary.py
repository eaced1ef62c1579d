"""A video in a few lines for people. Imported when `ferkit video` runs, not when its help is shown."""

from collections.abc import Sequence

from rich.text import Text

from ferkit.cli.console import output
from ferkit.errors import count
from ferkit.labels import color_of
from ferkit.sources import printable_name
from ferkit.video import PersonTimeline, Timeline, clock

_MOST_PEOPLE = 20
_MOST_LABELS = 3
_HEADER = ("person", "from", "to", "seen", "changes", "longest")


def print_summary(timeline: Timeline) -> None:
    """Print who was seen when, and what they showed, those first who were seen longest."""
    people, end = timeline.by_presence, timeline.end_s
    faces = timeline.frames_with_faces / max(timeline.frames, 1)
    output.print(
        f"{printable_name(timeline.source)}: {clock(end, end)}, {count(timeline.frames, 'frame')} looked at, "
        f"{len(people)} {'person' if len(people) == 1 else 'people'}, faces in {faces:.0%} of the frames",
        markup=False,
        soft_wrap=True,
    )
    if not people:
        return
    rows = [_HEADER, *(_row(person, end) for person in people[:_MOST_PEOPLE])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADER))]
    last: list[str | Text] = ["emotions", *map(_emotions, people)]
    for row, emotions in zip(rows, last, strict=False):
        # Not a table of Rich: that would cut words where the terminal is narrow, and in a pipe.
        *numbers, longest = row
        cells = [f"{cell:>{wide}}" for cell, wide in zip(numbers, widths, strict=False)]
        cells.append(f"{longest:<{widths[-1]}}")
        output.print(Text("  ".join(cells) + "  ").append(emotions), soft_wrap=True)
    if len(people) > _MOST_PEOPLE:
        output.print(
            f"and {len(people) - _MOST_PEOPLE} more, each seen for at most {clock(people[_MOST_PEOPLE].present_s, end)}"
        )


def _row(person: PersonTimeline, end: float) -> Sequence[str]:
    longest = person.longest
    return [
        str(person.track),
        clock(person.first_s, end),
        clock(person.last_s, end),
        clock(person.present_s, end),
        str(sum(person.transitions.values())),
        f"{longest.label} {clock(longest.seconds, end)}" if longest else "",
    ]


def _emotions(person: PersonTimeline) -> Text:
    share = person.summary()["share"]
    parts = [
        Text.assemble((label, color_of(label)), f" {part:.0%}") for label, part in list(share.items())[:_MOST_LABELS]
    ]
    return Text("  ").join(parts)
