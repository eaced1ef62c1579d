"""Annotated pictures: boxes, labels and probability bars that stay readable on any background."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ferkit.images import RgbImage
from ferkit.palette import color_of
from ferkit.results import UNCERTAIN, Box, FaceEmotion

# Letters below this height cannot be read, so pictures too small for them are enlarged.
_SMALLEST_FONT = 12
_SMALLEST_PICTURE = 256
_INK = (22, 24, 29)
_PAPER = (255, 255, 255)
_UNCERTAIN_COLOR = "#5B5F66"

_Font = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont


@dataclass(frozen=True)
class Style:
    """Sizes in pixels that fit a picture."""

    font: _Font
    font_size: int
    line: int
    pad: int

    @classmethod
    def for_picture(cls, width: int, height: int) -> "Style":
        size = int(np.clip(max(width, height) / 48, _SMALLEST_FONT, 64))
        return cls(PIL.ImageFont.load_default(size), size, max(2, round(size / 7)), max(2, round(size / 4)))


def annotate(image: RgbImage, faces: Iterable[FaceEmotion], *, bars: bool = True, top: int | None = None) -> RgbImage:
    """Draw every face's box, its label with confidence, and where there is room its probabilities as bars.

    image: RGB uint8 (H, W, 3), left as it is. Below 256 pixels on both sides it is enlarged by a whole number, for
        letters need room; else the result has its size.
    bars: whether to draw probabilities beside faces. top: only that many classes.
    """
    shown = list(faces)
    factor = -(-_SMALLEST_PICTURE // max(image.shape[:2]))
    picture = PIL.Image.fromarray(image)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), PIL.Image.Resampling.BICUBIC)
    style = Style.for_picture(*picture.size)
    draw = PIL.ImageDraw.Draw(picture)
    boxes = [_scaled(face.box, factor) for face in shown]
    for face, box in zip(shown, boxes, strict=True):
        _draw_box(draw, box, _color(face), style)
    # What may not be covered: faces first, then the labels, then the bars, each placed around what is there.
    taken = list(boxes)
    for face, box in zip(shown, boxes, strict=True):
        taken.append(_draw_label(draw, face, box, [*taken], style, picture.size))
    for face, box in zip(shown, boxes, strict=True):
        if bars and (panel := _draw_bars(picture, face.top(top), box, taken, style)):
            taken.append(panel)
    return np.asarray(picture).copy()


def _scaled(box: Box, factor: int) -> Box:
    return Box(box.x1 * factor, box.y1 * factor, box.x2 * factor, box.y2 * factor)


def _color(face: FaceEmotion) -> str:
    return _UNCERTAIN_COLOR if face.label == UNCERTAIN else color_of(face.label)


def _draw_box(draw: PIL.ImageDraw.ImageDraw, box: Box, color: str, style: Style) -> None:
    # Thinner on small faces, which a thick line would hide. A dark rim shows on light ground, the colour on dark.
    line = max(1, min(style.line, min(box.width, box.height) // 16))
    rim = max(1, line // 2)
    edges = (box.x1, box.y1, box.x2 - 1, box.y2 - 1)
    radius = max(2, min(box.width, box.height) // 24)
    draw.rounded_rectangle(edges, radius, outline=_INK, width=line + 2 * rim)
    inner = tuple(edge + rim if place < 2 else edge - rim for place, edge in enumerate(edges))
    if inner[0] < inner[2] and inner[1] < inner[3]:
        draw.rounded_rectangle(inner, radius, outline=color, width=line)


def _draw_label(
    draw: PIL.ImageDraw.ImageDraw,
    face: FaceEmotion,
    box: Box,
    taken: Sequence[Box],
    style: Style,
    size: tuple[int, int],
) -> Box:
    text = f"{face.label} {face.confidence:.0%}"
    wide = min(round(draw.textlength(text, style.font)) + 2 * style.pad + 2, size[0])
    high = min(style.font_size + 2 * style.pad, size[1])
    places = [_shifted(*corner, wide, high, size) for corner in _around(box, wide, high, style.line)]
    # The first that covers nothing; in a crowd the one that covers least.
    place = min(places, key=lambda place: sum(_covered(place, other) for other in taken))
    color = _color(face)
    edges = (place.x1, place.y1, place.x2 - 1, place.y2 - 1)
    draw.rounded_rectangle(edges, style.pad, fill=color, outline=_INK, width=max(1, style.line // 2))
    middle = (place.x1 + place.x2) / 2, (place.y1 + place.y2) / 2
    draw.text(middle, text, fill=_text_on(color), font=style.font, anchor="mm")
    return place


def _draw_bars(
    picture: PIL.Image.Image, classes: Sequence[tuple[str, float]], box: Box, taken: Sequence[Box], style: Style
) -> Box | None:
    """A panel of bars beside the box; None where every place would cover something."""
    draw = PIL.ImageDraw.Draw(picture)
    row = round(style.font_size * 1.35)
    names = max(draw.textlength(name, style.font) for name, _ in classes)
    numbers = draw.textlength("100%", style.font)
    length = 4 * style.font_size
    wide = round(names + numbers + length + 5 * style.pad)
    high = row * len(classes) + 2 * style.pad
    # Panels larger than the faces they belong to would hide a crowd.
    if wide > picture.width or high > min(picture.height, 1.5 * box.height):
        return None
    places = (_shifted(*corner, wide, high, picture.size) for corner in _beside(box, wide, high, 2 * style.line))
    place = next((place for place in places if not any(_covered(place, other) for other in taken)), None)
    if place is None:
        return None
    shade = PIL.Image.new("L", (wide, high), 0)
    PIL.ImageDraw.Draw(shade).rounded_rectangle((0, 0, wide - 1, high - 1), style.pad, fill=200)
    picture.paste(_INK, (place.x1, place.y1), shade)
    left = place.x1 + 2 * style.pad + names
    for line, (name, p) in enumerate(classes):
        y = place.y1 + style.pad + (line + 0.5) * row
        half = row * 0.28
        draw.text((left - style.pad / 2, y), name, fill=_PAPER, font=style.font, anchor="rm")
        start = left + style.pad / 2
        draw.rectangle((start, y - half, start + length, y + half), fill=(70, 74, 82))
        if p * length >= 1:
            draw.rectangle((start, y - half, start + p * length, y + half), fill=color_of(name))
        draw.text((place.x2 - style.pad, y), f"{p:.0%}", fill=_PAPER, font=style.font, anchor="rm")
    return place


def _around(box: Box, wide: int, high: int, gap: int) -> Iterator[tuple[int, int]]:
    """Corners for a label, best first: above, below, beside, inside; then further and further away."""
    starts = [box.x1, (box.x1 + box.x2 - wide) // 2, box.x2 - wide]
    for step in range(4):
        away = gap + step * (high + gap)
        yield from ((x, box.y1 - high - away) for x in starts)
        yield from ((x, box.y2 + away) for x in starts)
        yield from ((x, box.y1 + step * (high + gap)) for x in (box.x2 + gap, box.x1 - wide - gap))
    yield from ((box.x1 + gap, y) for y in (box.y1 + gap, box.y2 - high - gap))


def _beside(box: Box, wide: int, high: int, gap: int) -> Iterator[tuple[int, int]]:
    """Corners for a panel of bars, best first."""
    rows = [box.y1, (box.y1 + box.y2 - high) // 2, box.y2 - high]
    columns = [box.x1, (box.x1 + box.x2 - wide) // 2, box.x2 - wide]
    yield from ((x, y) for x in (box.x2 + gap, box.x1 - wide - gap) for y in rows)
    yield from ((x, y) for y in (box.y2 + gap, box.y1 - high - gap) for x in columns)


def _shifted(x: int, y: int, wide: int, high: int, size: tuple[int, int]) -> Box:
    """A rectangle moved into the picture, which it fits."""
    x, y = min(max(x, 0), size[0] - wide), min(max(y, 0), size[1] - high)
    return Box(x, y, x + wide, y + high)


def _covered(one: Box, other: Box) -> int:
    """Shared area in square pixels."""
    wide = min(one.x2, other.x2) - max(one.x1, other.x1)
    high = min(one.y2, other.y2) - max(one.y1, other.y1)
    return max(wide, 0) * max(high, 0)


def _text_on(color: str) -> tuple[int, int, int]:
    """Ink or paper, whichever contrasts more (relative luminance of WCAG 2.1)."""
    linear = [(int(color[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _INK if luminance > 0.18 else _PAPER
