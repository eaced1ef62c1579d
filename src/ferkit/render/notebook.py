"""Results as a notebook shows them: the annotated picture and a table of its faces, small enough to keep in the file.

Colours of text and ground are the notebook's own, so light and dark themes both work. There is no script and no style
sheet, which notebooks strip from strangers' files.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit.errors import count
from ferkit.render.document import Block, Cell, ClassName, Code, Column, DataTable, Inline, Photo, Row, Source, Text
from ferkit.render.page import blocks_to_html
from ferkit.results import FaceEmotion, PictureResult

_LONGEST_SIDE = 960  # pixels of the embedded picture, about 0.1 MB
_LONGEST_ERROR = 500
_ROWS = 30
_THUMBNAIL = 48  # pixels; shown at half the size, so they are sharp on any display

_CELL = "padding:3px 8px;border:0;border-top:1px solid #7f7f7f40;white-space:nowrap;text-align:"
# What the style sheet of a page says, for each kind of element that is used here.
_STYLES = {
    "p": "margin:4px 0",
    "div.scroll": "overflow-x:auto",
    "table": "border-collapse:collapse;table-layout:auto;margin:6px 0;font-size:12px;border:0",
    # Notebooks stripe rows in colours that fight with the bars.
    "tr": "background:transparent;border:0",
    "th": f"{_CELL}right;font-weight:600;background:transparent",
    "th.words": f"{_CELL}left;font-weight:600;background:transparent",
    "td": f"{_CELL}right",
    "td.words": f"{_CELL}left",
    "i.bar": "display:block;height:5px;border-radius:2px",
    "span.dot": "display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.4em",
    "small": "display:block;min-width:24em;white-space:normal;opacity:.75",
    "img.photo": "display:block;max-width:min(100%,720px);max-height:600px;width:auto;height:auto;margin:0",
    "img.thumbnail": f"height:{_THUMBNAIL // 2}px;width:auto;margin:0;border-radius:3px;display:block",
}


def picture_html(result: PictureResult) -> str:
    """One picture: annotated where the result holds pixels, and under it a row per face."""
    about: tuple[str, ...] = (f" \N{MIDDLE DOT} {_error(result)}",)
    if result.error is None:
        size = f"{result.width:,} \N{MULTIPLICATION SIGN} {result.height:,}"
        about = (f" \N{MIDDLE DOT} {size} \N{MIDDLE DOT} ", count(len(result), "face") if result.faces else "no face")
    rows = [_face_row(_thumbnail(result, face), face, result.classes) for face in result.faces[:_ROWS]]
    blocks: list[Block] = [*_photo(result), Text((Source(result.source), *about)), *_table("", result.classes, rows)]
    return _whole(blocks, len(result) - _ROWS)


def pictures_html(results: Sequence[PictureResult]) -> str:
    """Many pictures: what there is in all, and a row per face of the first ones."""
    classes = list(dict.fromkeys(name for result in results for name in result.classes))
    unread = sum(result.error is not None for result in results)
    said = [count(len(results), "picture"), count(sum(map(len, results)), "face")]
    said += [f"{unread:,} could not be read"] if unread else []
    rows = [row for result in results[:_ROWS] for row in _rows_of(result, classes)][:_ROWS]
    blocks: list[Block] = [Text(" \N{MIDDLE DOT} ".join(said)), *_table("picture", classes, rows)]
    return _whole(blocks, sum(max(len(result), 1) for result in results) - _ROWS)


def _whole(blocks: Sequence[Block], more: int) -> str:
    rest = (Text((f"{more:,} more; ", Code("to_pandas()"), " has all")),) if more > 0 else ()
    inside = re.sub(r'<(\w+)(?: class="(\w+)")?( style=")?', _with_style, blocks_to_html((*blocks, *rest)))
    return f'<div style="font:13px/1.4 system-ui,sans-serif;max-width:100%">{inside}</div>'


def _with_style(tag: re.Match[str]) -> str:
    """The same start of a tag with its style in place of its class. Texts are escaped: they hold none."""
    name, kind, further = tag.groups()
    style = _STYLES.get(f"{name}.{kind}" if kind else name, "")
    if further:
        return f'<{name} style="{style};'
    return f'<{name} style="{style}"' if style else f"<{name}"


def _table(first: str, classes: Sequence[str], rows: Sequence[Row]) -> Iterator[DataTable]:
    if rows:
        yield DataTable((first, Column("emotion", left=True), *classes), tuple(rows))


def _rows_of(result: PictureResult, classes: Sequence[str]) -> Iterator[Row]:
    name: str = Source(result.source)
    for face in result.faces:
        yield _face_row(Cell(name), face, classes)
        name = ""
    if not result.faces:
        said = "no face" if result.error is None else Cell("", note=_error(result))
        yield (name, said, *("" for _ in classes))


def _face_row(first: Cell, face: FaceEmotion, classes: Sequence[str]) -> Row:
    named: Inline = (ClassName(face.label) if face.label in face.probabilities else f"? {face.label}",)
    bars = (_bar(face.probabilities.get(name), name, face.confidence) for name in classes)
    return (first, Cell((*named, f" {face.confidence:.0%}"), strong=True), *bars)


def _bar(p: float | None, name: str, most: float) -> Cell:
    return Cell("") if p is None else Cell(f"{p:.0%}", strong=p == most, bar=(p, name))


def _error(result: PictureResult) -> str:
    return (result.error or "")[:_LONGEST_ERROR]


def _photo(result: PictureResult) -> Iterator[Photo]:
    if result.pixels is not None:
        # Here, because most results never show their picture.
        from ferkit.render.drawing import annotate

        yield Photo(
            annotate(result.pixels, result, bars=False, longest=_LONGEST_SIDE), "The picture with its faces framed"
        )


def _thumbnail(result: PictureResult, face: FaceEmotion) -> Cell:
    if result.pixels is None:
        return Cell("")
    box = face.box
    cut = PIL.Image.fromarray(result.pixels[box.y1 : box.y2, box.x1 : box.x2])
    cut.thumbnail((2 * _THUMBNAIL, _THUMBNAIL))
    shown: npt.NDArray[np.uint8] = np.asarray(cut)
    return Cell("", face=shown)
