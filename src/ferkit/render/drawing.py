"""Annotated pictures: boxes, labels and probability bars that stay readable on any background, and blurred faces.

Labels and bars go beside faces, over nothing, and in videos where they were before. `blurred` leaves nobody to be
recognised in what is written out, after faces were looked at.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ferkit.labels import color_of
from ferkit.results import UNCERTAIN, Box, FaceEmotion, shared_areas

_Pixels = npt.NDArray[np.uint8]
_Color = tuple[int, int, int]
_Font = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont

# Letters below this height cannot be read, so pictures too small for them are enlarged, within reason.
SMALLEST_FONT = 12
# A face must grow or shrink by so much before its letters do: in a video they would tremble.
_STEADY = 0.2
# Of few bars one gives way to another class that is so much more probable.
_STAYS = 0.05
# So many squares are left of a face: below ten, people and networks no longer tell who it is, however large it was.
_SQUARES = 7
# A box ends at the forehead; hair and ears tell who it is as well.
_GROW = 0.3
# Pictures too small for letters that can be read are enlarged, within reason.
_SMALLEST_SIDE, _SMALLEST_WIDTH, _SMALLEST_HEIGHT = 256, 128, 48
_LARGEST_ENLARGED = 2048
_LONGEST_NAME = 24  # letters of a class name
_FEWEST_BARS = 3
_INK: _Color = (22, 24, 29)
_PAPER: _Color = (255, 255, 255)
_TRACK: _Color = (84, 89, 98)
_UNCERTAIN_COLOR = "#5B5F66"


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
    one, other = (np.array([box.to_list() for box in boxes], np.int64).reshape(-1, 4) for boxes in (places, taken))
    return shared_areas(one, other)


def blurred(image: _Pixels, boxes: Iterable[Box]) -> _Pixels:
    """A copy of a picture, RGB uint8 (H, W, 3), in which what is inside of the boxes and a little around cannot be known.

    Each is averaged over a few squares, of which the rest is made anew: nothing can be computed back. The edge is soft,
    and lies outside of the box.
    """
    canvas = image.copy()
    height, width = image.shape[:2]
    for box in boxes:
        wide, high = round(box.width * _GROW), round(box.height * _GROW)
        x1, y1, x2, y2 = box.x1 - wide, box.y1 - high, box.x2 + wide, box.y2 + high
        inside = slice(max(y1, 0), min(y2, height)), slice(max(x1, 0), min(x2, width))
        part = canvas[inside]
        if not part.size:  # who has left the picture
            continue
        shape = _shape(x2 - x1, y2 - y1)[inside[0].start - y1 :, inside[1].start - x1 :][
            : part.shape[0], : part.shape[1]
        ]
        part[:] = np.rint(part + shape[..., None] * (unrecognisable(part).astype(np.float32) - part))
    return canvas


def unrecognisable(face: _Pixels) -> _Pixels:
    """The colours of a face and nothing else, RGB uint8 of the same shape."""
    height, width = face.shape[:2]
    scale = _SQUARES / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    few = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _shape(width: int, height: int) -> npt.NDArray[np.float32]:
    """How much of the blur shows, float32 (height, width): all of it on the face, none at the corners."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    # Between an ellipse and a rectangle, so that a box's own corners, at 1 / (1 + 2 * _GROW), are well inside.
    far = (x**4)[None] + (y**4)[:, None]
    return np.asarray(np.clip((1 - far) / 0.4, 0, 1), np.float32)


def annotate(
    image: _Pixels,
    faces: Iterable[FaceEmotion],
    *,
    bars: bool = True,
    top: int | None = None,
    longest: int | None = None,
    layouts: Sequence[Layout] | None = None,
) -> _Pixels:
    """Draw every face's box, its label with confidence, and where there is room its probabilities as bars.

    image: RGB uint8 (H, W, 3), left as it is. Where it is too small for letters the result is enlarged by a whole
        number, else it has the same size.
    bars: whether to draw probabilities beside faces. top: only that many classes.
    longest: shrink the picture first, so that neither side is longer; letters stay as sharp as they were.
    layouts: one for each face of a video, the same in every frame: it has the face's name, and keeps things in their
        places.
    """
    shown = list(faces)
    kept = [Layout() for _ in shown] if layouts is None else list(layouts)
    canvas, scale = _canvas(image, longest)
    height, width = canvas.shape[:2]
    boxes = [_scaled(face.box, scale, width, height) for face in shown]
    styles = [layout.style_for(box, max(width, height)) for layout, box in zip(kept, boxes, strict=True)]
    colors = [_UNCERTAIN_COLOR if face.label == UNCERTAIN else color_of(face.label) for face in shown]
    # What may not be covered: faces first, then the labels, then the bars, each placed around what is there.
    taken = [
        _draw_frame(canvas, box, _rgb(color), style) for box, color, style in zip(boxes, colors, styles, strict=True)
    ]
    frames = list(taken)
    for face, frame, color, style, layout in zip(shown, frames, colors, styles, kept, strict=True):
        taken.append(_draw_label(canvas, face, frame, taken, color, style, layout))
    for face, frame, style, layout in zip(shown, frames, styles, kept, strict=True):
        # A panel that touches another face would be read as that one's.
        others = [grown(other, 6 * style.line) for other in frames if other is not frame]
        if bars and (panel := _draw_bars(canvas, face.top(top), frame, [*taken, *others], style, layout)):
            taken.append(panel)
    return canvas


def _canvas(image: _Pixels, longest: int | None) -> tuple[_Pixels, float]:
    """A copy to draw on, and by how much it was enlarged."""
    height, width = image.shape[:2]
    if longest is not None and max(height, width) > longest:
        scale = longest / max(height, width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale
    wanted = max(_SMALLEST_SIDE / max(height, width), _SMALLEST_WIDTH / width, _SMALLEST_HEIGHT / height)
    # A strip of a few pixels by thousands is not blown up for the sake of its letters.
    allowed = max(_LARGEST_ENLARGED // max(height, width), 1)
    factor = min(int(np.ceil(wanted)), allowed)
    if factor <= 1:
        return image.copy(), 1.0
    size = width * factor, height * factor
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8), float(factor)


def _scaled(box: Box, scale: float, width: int, height: int) -> Box:
    x1, y1, x2, y2 = (round(edge * scale) for edge in box.to_list())
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return Box(x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height))


def _draw_frame(canvas: _Pixels, box: Box, color: _Color, style: Style) -> Box:
    """A frame around the box, which leaves the face free; at the picture's edges it moves inside. Returns its outside.

    Between dark rims, which show on light ground and on the frame's own colour.
    """
    height, width = canvas.shape[:2]
    rim = max(1, style.line // 4)
    away = style.line + 2 * rim
    outside = Box(max(box.x1 - away, 0), max(box.y1 - away, 0), min(box.x2 + away, width), min(box.y2 + away, height))
    x1, y1, x2, y2 = outside.to_list()
    for shade, wide in ((_INK, rim), (color, style.line), (_INK, rim)):
        ring = canvas[y1:y2, x1:x2]
        ring[:wide] = ring[-wide:] = shade
        ring[:, :wide] = ring[:, -wide:] = shade
        x1, y1, x2, y2 = x1 + wide, y1 + wide, x2 - wide, y2 - wide
        if x1 >= x2 or y1 >= y2:
            break
    return outside


def _draw_label(
    canvas: _Pixels, face: FaceEmotion, frame: Box, taken: Sequence[Box], color: str, style: Style, layout: Layout
) -> Box:
    height, width = canvas.shape[:2]
    text = f"{layout.name} {_short(face.label)} {face.confidence:.0%}".lstrip()
    font = _font(style.font_size, text.isascii())
    wide = min(round(font.getlength(text)) + 2 * style.pad + 2, width)
    high = min(style.font_size + 2 * style.pad, height)
    places = [shifted(*corner, wide, high, width, height) for corner in around(frame, wide, high, style.line)]
    # The first that covers nothing; in a crowd the one that covers least.
    layout.label = least_covering(places, taken, layout.label)
    place = places[layout.label]
    _draw_leader(canvas, frame, place, _rgb(color), style)
    ground, draw = _ground(canvas, place)
    edges = (0, 0, wide - 1, high - 1)
    draw.rounded_rectangle(edges, style.pad, fill=color, outline=_INK, width=max(1, style.line // 2))
    draw.text((style.pad + 1, high / 2), text, fill=_text_on(color), font=font, anchor="lm")
    canvas[place.y1 : place.y2, place.x1 : place.x2] = np.asarray(ground)
    return place


def _draw_leader(canvas: _Pixels, frame: Box, label: Box, color: _Color, style: Style) -> None:
    """A line from a face to its label where other things stand between them."""
    across = max(label.x1 - frame.x2, frame.x1 - label.x2, 0)
    down = max(label.y1 - frame.y2, frame.y1 - label.y2, 0)
    if max(across, down) <= 2 * style.line:
        return
    start = nearest(frame, (label.x1 + label.x2) // 2, (label.y1 + label.y2) // 2)
    end = nearest(label, *start)
    for shade, thick in ((_INK, style.line + 2), (color, style.line)):
        cv2.line(canvas, start, end, shade, thick, cv2.LINE_AA)


def _draw_bars(
    canvas: _Pixels,
    classes: Sequence[tuple[str, float]],
    frame: Box,
    taken: Sequence[Box],
    style: Style,
    layout: Layout,
) -> Box | None:
    """A panel of bars beside the face, of fewer classes where all do not fit; None where every place is taken."""
    height, width = canvas.shape[:2]
    row = round(style.small_font * 1.35)
    # Panels larger than the faces they belong to would hide a crowd.
    room = (min(height, round(1.5 * frame.height)) - 2 * style.pad) // row
    for count in (len(classes), _FEWEST_BARS):
        bars = layout.bars_to_draw(classes, _FEWEST_BARS, max(min(count, room), 0))
        shown = [(_short(name), name, p) for name, p in bars]
        if len(shown) < min(_FEWEST_BARS, len(classes)):
            return None
        font = _font(style.small_font, all(text.isascii() for text, _, _ in shown))
        names = round(max(font.getlength(text) for text, _, _ in shown))
        length = 4 * style.small_font
        wide = names + round(font.getlength("100%")) + length + 6 * style.pad
        high = row * len(shown) + 2 * style.pad
        if wide > width or high > height:
            continue
        places = [shifted(*at, wide, high, width, height) for at in beside(frame, wide, high, 2 * style.line)]
        free = free_place(places, taken, layout.bars)
        if free is not None:
            break
    else:
        return None
    layout.bars, place = free, places[free]
    ground, draw = _ground(canvas, place)
    shade = PIL.Image.new("L", ground.size)
    PIL.ImageDraw.Draw(shade).rounded_rectangle((0, 0, wide - 1, high - 1), style.pad, fill=225)
    ground.paste(_INK, mask=shade)
    left = 2 * style.pad + names
    for line, (text, name, p) in enumerate(shown):
        y = style.pad + (line + 0.5) * row
        start, half = left + style.pad, row * 0.28
        draw.text((left, y), text, fill=_PAPER, font=font, anchor="rm")
        draw.rectangle((start, y - half, start + length, y + half), fill=_TRACK)
        if p * length >= 1:
            draw.rectangle((start, y - half, start + p * length, y + half), fill=color_of(name))
        draw.text((wide - 2 * style.pad, y), f"{p:.0%}", fill=_PAPER, font=font, anchor="rm")
    canvas[place.y1 : place.y2, place.x1 : place.x2] = np.asarray(ground)
    return place


def _ground(canvas: _Pixels, place: Box) -> tuple[PIL.Image.Image, PIL.ImageDraw.ImageDraw]:
    """A copy of one place to draw on: only what is drawn costs time, however large the photo is."""
    ground = PIL.Image.fromarray(canvas[place.y1 : place.y2, place.x1 : place.x2])
    return ground, PIL.ImageDraw.Draw(ground)


@lru_cache(maxsize=64)
def _font(size: int, ascii_only: bool) -> _Font:
    """Pillow's own font; for letters beyond ASCII the one that Matplotlib carries, which has Greek, Cyrillic, Arabic."""
    spec = None if ascii_only else find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return PIL.ImageFont.truetype(str(file), size)
    return PIL.ImageFont.load_default(size)


def _short(name: str) -> str:
    """A class name on one line and of bounded length; it may come from anywhere."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= _LONGEST_NAME else line[: _LONGEST_NAME - 3].rstrip() + "..."


def _rgb(color: str) -> _Color:
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def _text_on(color: str) -> _Color:
    """Ink or paper, whichever contrasts more (relative luminance of WCAG 2.1)."""
    linear = [(channel / 255) ** 2.2 for channel in _rgb(color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _INK if luminance > 0.18 else _PAPER
