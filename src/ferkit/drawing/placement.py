"""Where labels and bars go in an annotated picture: beside faces, over nothing, and in videos where they were before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferkit.results import Box

# Letters below this height cannot be read, so pictures too small for them are enlarged, within reason.
SMALLEST_FONT = 12
# A face must grow or shrink by so much before its letters do: in a video they would tremble.
_STEADY = 0.2
# Of few bars one gives way to another class that is so much more probable.
_STAYS = 0.05


@dataclass(frozen=True)
class Style:
    """Sizes in pixels of what is drawn for one face; `small_font` is that of its bars."""

    font_size: int
    small_font: int
    line: int
    pad: int

    @classmethod
    def for_face(cls, box: Box, longest: int) -> "Style":
        """Letters grow with the face, between what can be read in a picture of that longest side and what is loud."""
        least, most = np.clip([longest / 100, longest / 48], SMALLEST_FONT, (40, 64))
        size = int(np.clip(0.6 * box.height, least, most))
        return cls(size, max(int(least), round(0.75 * size)), max(2, round(size / 7)), max(2, round(size / 4)))


@dataclass
class Layout:
    """How one face was drawn in the frame before: what still fits is kept, so that nothing jumps or trembles.

    name: stands before the label, such as the number of a track. order: of the classes, for bars that stay in their
    rows; empty for the most probable first. style, label, bars, shown: sizes, which of the possible places were taken,
    and whose bars were drawn.
    """

    name: str = ""
    order: tuple[str, ...] = ()
    style: Style | None = None
    label: int | None = None
    bars: int | None = None
    shown: frozenset[str] = frozenset()

    def style_for(self, box: Box, longest: int) -> Style:
        style = Style.for_face(box, longest)
        kept = self.style
        if kept is None or abs(style.font_size - kept.font_size) > _STEADY * kept.font_size:
            self.style = kept = style
        return kept

    def bars_to_draw(self, classes: Sequence[tuple[str, float]], few: int, room: int) -> list[tuple[str, float]]:
        """The bars that there is room for, from the top.

        classes: names and probabilities, best first. few: how many are the least. room: how many fit.
        """
        if not self.order:
            return list(classes[:room])
        # In a video all or few, and not one more or less with every step of the person.
        full = room >= len(classes) + (0 < len(self.shown) < len(classes))
        ranked = sorted(classes, key=lambda item: -item[1] - _STAYS * (item[0] in self.shown))
        places = {name: place for place, name in enumerate(self.order)}
        bars = sorted(ranked if full else ranked[: min(few, room)], key=lambda item: places.get(item[0], 0))
        self.shown = frozenset(name for name, _ in bars)
        return bars


def free_place(places: Sequence[Box], taken: Sequence[Box], before: int | None) -> int | None:
    """The place that was taken before if it is free, else the first free one; None where none is."""
    free = np.flatnonzero(covers(places, taken).sum(axis=1) == 0)
    if not len(free):
        return None
    return before if before in free else int(free[0])


def least_covering(places: Sequence[Box], taken: Sequence[Box], before: int | None) -> int:
    """The place that was taken before, if it still covers nothing; else the first that covers least."""
    covered = covers(places, taken).sum(axis=1)
    if before is not None and before < len(places) and covered[before] <= covered.min():
        return before
    return int(covered.argmin())


def around(box: Box, wide: int, high: int, gap: int) -> Iterator[tuple[int, int]]:
    """Corners for a label, best first: above, below, beside, inside; then further and further away."""
    starts = [box.x1, (box.x1 + box.x2 - wide) // 2, box.x2 - wide]
    for step in range(4):
        away = gap + step * (high + gap)
        yield from ((x, box.y1 - high - away) for x in starts)
        yield from ((x, box.y2 + away) for x in starts)
        yield from ((x, box.y1 + step * (high + gap)) for x in (box.x2 + gap, box.x1 - wide - gap))
    yield from ((box.x1 + gap, y) for y in (box.y1 + gap, box.y2 - high - gap))


def beside(box: Box, wide: int, high: int, gap: int) -> Iterator[tuple[int, int]]:
    """Corners for a panel of bars, best first."""
    rows = [box.y1, (box.y1 + box.y2 - high) // 2, box.y2 - high]
    columns = [box.x1, (box.x1 + box.x2 - wide) // 2, box.x2 - wide]
    yield from ((x, y) for x in (box.x2 + gap, box.x1 - wide - gap) for y in rows)
    yield from ((x, y) for y in (box.y2 + gap, box.y1 - high - gap) for x in columns)


def shifted(x: int, y: int, wide: int, high: int, width: int, height: int) -> Box:
    """A rectangle moved into the picture, which it fits."""
    x, y = min(max(x, 0), width - wide), min(max(y, 0), height - high)
    return Box(x, y, x + wide, y + high)


def grown(box: Box, by: int) -> Box:
    return Box(max(box.x1 - by, 0), max(box.y1 - by, 0), box.x2 + by, box.y2 + by)


def nearest(box: Box, x: int, y: int) -> tuple[int, int]:
    """The point of a box that is nearest to another point."""
    return min(max(x, box.x1), box.x2 - 1), min(max(y, box.y1), box.y2 - 1)


def covers(places: Sequence[Box], taken: Sequence[Box]) -> npt.NDArray[np.int64]:
    """How much of each thing each place would cover, in square pixels: (places, taken)."""
    one = np.array([place.to_list() for place in places], np.int64).reshape(-1, 1, 4)
    other = np.array([box.to_list() for box in taken], np.int64).reshape(1, -1, 4)
    shared = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return np.asarray(np.maximum(shared, 0).prod(axis=2))
