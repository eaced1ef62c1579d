"""Heatmaps drawn onto their picture."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from ferkit.drawing import annotate
from ferkit.explain.record import Explanation
from ferkit.images import RgbImage
from ferkit.results import Box, Face, FaceEmotion

_Floats = npt.NDArray[np.float32]

# Perceptually uniform, and told apart by those who see few colours: viridis (Smith and van der Walt 2015), whose greens
# and yellows no skin has.
_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1].astype(
    np.float32
)
# Below the first the picture shows alone, from the second on the colours cover it most.
_WEAK, _STRONG, _OPAQUE = 0.15, 0.75, 0.72
# A face under colours is gray: else nobody could tell skin from a colour that means something.
_FADED = 0.85

_SMALLEST_SIDE = 480
_PAPER, _INK, _MUTED = (255, 255, 255), (27, 31, 39), (102, 112, 133)
_WORDS = {"grad-cam": "Grad-CAM", "occlusion": "Occlusion"}


def overlay(explanations: Sequence[Explanation]) -> RgbImage:
    """One picture with the heatmaps of its faces, their labels, and below it a bar that says what colours mean.

    explanations: of one picture; at least one. Pictures of less than 480 pixels are enlarged, so that letters can be
    read.
    """
    shown = _enlarged(explanations)
    canvas = shown[0].picture.copy()
    for one in shown:
        _paint(canvas, one)
    faces = [replace(one.face, label=one.label, confidence=one.confidence) for one in shown]
    drawn = annotate(canvas, faces, bars=False)
    return np.vstack([drawn, _bar(shown, drawn.shape[1])])


def ramp(count: int) -> list[str]:
    """So many colours from what counts nothing to what counts most, as `#RRGGBBAA`, for pages that draw by themselves."""
    heat = np.linspace(0, 1, count, dtype=np.float32)
    colors = np.column_stack([_colors(heat), 255 * _opacity(heat)])
    return ["#" + "".join(f"{round(channel):02X}" for channel in color) for color in colors.tolist()]


def _colors(heat: _Floats) -> _Floats:
    return np.asarray(_COLORS[np.rint(np.clip(heat, 0, 1) * 255).astype(int)], np.float32)


def _opacity(heat: _Floats) -> _Floats:
    """From 0 without an edge where it begins or ends."""
    share = np.clip((heat - _WEAK) / (_STRONG - _WEAK), 0, 1)
    return np.asarray(_OPAQUE * share * share * (3 - 2 * share), np.float32)


def _enlarged(explanations: Sequence[Explanation]) -> list[Explanation]:
    """The same on a picture that is a whole number of times as large, where it is small."""
    picture = explanations[0].picture
    times = max(1, round(_SMALLEST_SIDE / max(picture.shape[:2])))
    if times == 1:
        return list(explanations)
    large = np.asarray(cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.uint8)
    return [
        replace(one, picture=large, to_picture=one.to_picture * times, face=_moved(one.face, times))
        for one in explanations
    ]


def _moved(face: FaceEmotion, times: int) -> FaceEmotion:
    box = Box(*(times * edge for edge in face.box.to_list()))
    return replace(face, face=Face(box, face.detection_score))


def _paint(canvas: RgbImage, one: Explanation) -> None:
    part = one.part()
    if part is None:
        return
    heat = one.on_part(part)
    oval = replace(one, heatmap=_oval(*one.heatmap.shape)).on_part(part)[..., None]
    opaque = (_opacity(heat) * one.strength)[..., None]
    below = canvas[part.y1 : part.y2, part.x1 : part.x2]
    gray = cv2.cvtColor(below, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    faded = below + (gray - below) * (_FADED * oval)
    canvas[part.y1 : part.y2, part.x1 : part.x2] = np.rint(faded + (_colors(heat) - faded) * opaque).astype(np.uint8)


def _oval(height: int, width: int) -> _Floats:
    """1 in the middle, 0 in the corners: where a face is, softly ending."""
    down, across = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    return np.asarray(np.clip((1 - np.hypot(down, across)) * 8, 0, 1), np.float32)


def _bar(shown: Sequence[Explanation], width: int) -> RgbImage:
    """The legend: the method, and its colours from what counts little to what counts most."""
    size = int(np.clip(width / 36, 12, 40))
    font = PIL.ImageFont.load_default(size)
    pad = size
    picture = PIL.Image.new("RGB", (width, 3 * size), _PAPER)
    draw = PIL.ImageDraw.Draw(picture)
    left, right = _ends(shown)
    long = min(8 * size, width // 4)
    middle = 1.5 * size
    x = width - pad - font.getlength(right)
    draw.text((x, middle), right, fill=_INK, font=font, anchor="lm")
    ramp = PIL.Image.fromarray(np.repeat(_legend_colors(long, max(one.strength for one in shown))[None], size, axis=0))
    x -= long + size / 2
    picture.paste(ramp, (round(x), round(middle - size / 2)))
    x -= size / 2
    draw.text((x, middle), left, fill=_INK, font=font, anchor="rm")
    title = _WORDS.get(shown[0].method, shown[0].method)
    if pad + font.getlength(title) + size < x - font.getlength(left):
        draw.text((pad, middle), title, fill=_MUTED, font=font, anchor="lm")
    return np.asarray(picture)


def _legend_colors(count: int, strength: float) -> RgbImage:
    """The colours as they look on middle gray, as faint as on the face, so that the legend shows what the picture shows."""
    heat = np.linspace(0, 1, count, dtype=np.float32)
    return np.asarray(np.rint(128 + (_colors(heat) - 128) * (strength * _opacity(heat))[:, None]), np.uint8)


def _ends(shown: Sequence[Explanation]) -> tuple[str, str]:
    """What the two ends of the colours stand for."""
    if len(shown) == 1 and shown[0].peak is not None:
        return "0", f"-{100 * shown[0].peak:.0f} points"
    return "counts little", "counts most"
