"""A picture of a data set: a row per class with some of its faces from each split, and how many there are."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ferkit._support.files import write_encoded
from ferkit.data.records import Dataset, Faces, FaceSet
from ferkit.errors import DatasetError, UsageError
from ferkit.labels import color_of

THUMBNAIL = 84
GAP, MARGIN = 6, 36
NAME_WIDTH, ROW_GAP, BLOCK_GAP = 190, 14, 30
# All faces of a row together, shared among the splits; the first split, usually training, gets the larger part.
FACES_PER_ROW = 14
MOST_CLASSES = 40

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_INK, _SOFT, _EMPTY, _PAPER = "#1A1A1A", "#6B6B6B", "#EFEFEF", "#FFFFFF"
_EDGE = "#D8D8D8"


def draw_contact_sheet(dataset: Dataset, seed: int = 42) -> Image.Image:
    """Draw some faces of every class and split, chosen at random, without repeated ones where there is a choice."""
    splits = list(dataset.splits.values())
    columns = _columns(len(splits))
    classes = dataset.classes[:MOST_CLASSES]
    header = MARGIN + 96
    width = 2 * MARGIN + NAME_WIDTH + sum(_block_width(n) for n in columns) + BLOCK_GAP * (len(columns) - 1)
    left_out = len(dataset.classes) - len(classes)
    height = header + len(classes) * (THUMBNAIL + ROW_GAP) + MARGIN - ROW_GAP + (30 if left_out else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)

    total = sum(len(one) for one in splits)
    face = splits[0].images.shape[1:]
    kind = "gray" if face[2] == 1 else "colour"
    draw.text((MARGIN, MARGIN), _shortened(Path(dataset.source).name, 60), _INK, _font(26, bold=True), anchor="ls")
    about = f"{total:,} faces · {len(dataset.classes)} classes · {face[1]}x{face[0]} {kind} · chosen at random"
    draw.text((MARGIN, MARGIN + 26), about, _SOFT, _font(16), anchor="ls")

    rng = np.random.default_rng(seed)
    x = MARGIN + NAME_WIDTH
    for split, count in zip(splits, columns, strict=True):
        draw.text((x, header - 30), split.name, _INK, _font(18, bold=True), anchor="ls")
        draw.text((x, header - 11), f"{len(split):,} faces", _SOFT, _font(14), anchor="ls")
        for row, name in enumerate(classes):
            _row(sheet, (x, header + row * (THUMBNAIL + ROW_GAP)), _some(split, name, count, rng), count)
        x += _block_width(count) + BLOCK_GAP

    for row, name in enumerate(classes):
        y = header + row * (THUMBNAIL + ROW_GAP)
        draw.rectangle((MARGIN, y, MARGIN + 5, y + THUMBNAIL - 1), fill=color_of(name))
        draw.text((MARGIN + 18, y + 20), _shortened(name, 16), _INK, _font(19, bold=True), anchor="ls")
        counts = [f"{split.counts[name]:,} {_shortened(split.name, 11)}" for split in splits]
        for line, text in enumerate(counts[:3]):
            draw.text((MARGIN + 18, y + 41 + 19 * line), text, _SOFT, _font(14), anchor="ls")
    if left_out:
        draw.text((MARGIN, height - MARGIN), f"and {left_out:,} more classes", _SOFT, _font(16), anchor="ls")
    return sheet


def check_target(target: Path) -> None:
    """Refuse a file name that no sheet can be written to, before the data is read."""
    if target.suffix.lower() not in _FORMATS:
        raise UsageError(
            f"A contact sheet cannot be written as {target.name!r}. Expected one of: {', '.join(_FORMATS)}."
        )


def write_contact_sheet(dataset: Dataset, target: Path) -> None:
    """Draw the sheet into a file; its suffix chooses the format (.png, .jpg, .webp)."""
    check_target(target)
    sheet = draw_contact_sheet(dataset)
    write_encoded(target, lambda stream: sheet.save(stream, _FORMATS[target.suffix.lower()]), DatasetError)


def _columns(splits: int) -> list[int]:
    """Faces per row and split."""
    if splits == 1:
        return [FACES_PER_ROW]
    each = max(2, FACES_PER_ROW // (splits + 1))
    return [max(2, FACES_PER_ROW - each * (splits - 1)), *[each] * (splits - 1)]


def _block_width(count: int) -> int:
    return count * THUMBNAIL + (count - 1) * GAP


def _some(split: FaceSet, name: str, count: int, rng: np.random.Generator) -> Faces:
    """Up to `count` faces of a class, first those that repeat no other."""
    members = rng.permutation(np.flatnonzero(split.labels == split.classes.index(name)))
    if split.duplicate is not None:
        members = members[np.argsort(split.duplicate[members], kind="stable")]
    faces: Faces = split.images[np.sort(members[:count])]
    return faces


def _row(sheet: Image.Image, at: tuple[int, int], faces: Faces, count: int) -> None:
    for position in range(count):
        corner = (at[0] + position * (THUMBNAIL + GAP), at[1])
        if position >= len(faces):
            end = corner[0] + THUMBNAIL - 1, corner[1] + THUMBNAIL - 1
            ImageDraw.Draw(sheet).rectangle((*corner, *end), fill=_EMPTY)
            continue
        pixels = faces[position]
        face = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        scale = THUMBNAIL / max(face.size)
        size = max(1, round(face.width * scale)), max(1, round(face.height * scale))
        face = face.resize(size, Image.Resampling.BICUBIC)
        at_x, at_y = corner[0] + (THUMBNAIL - face.width) // 2, corner[1] + (THUMBNAIL - face.height) // 2
        sheet.paste(face, (at_x, at_y))
        # Many faces stand on white: without an edge they run into the paper.
        ImageDraw.Draw(sheet).rectangle((at_x, at_y, at_x + face.width - 1, at_y + face.height - 1), outline=_EDGE)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # Matplotlib carries DejaVu; Pillow's own default font lacks most scripts that class names are written in.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
