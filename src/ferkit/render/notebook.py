"""Results as a notebook shows them: the annotated picture and a table of its faces, small enough to keep in the file.

Colours of text and ground are the notebook's own, so light and dark themes both work. There is no script and no style
sheet, which notebooks strip from strangers' files; everything that comes from outside is escaped.
"""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit.errors import count
from ferkit.labels import color_of
from ferkit.results import FaceEmotion, PictureResult

_LONGEST_SIDE = 960  # pixels of the embedded picture, about 0.1 MB
_ROWS = 30
_LONGEST_NAME = 48
_THUMBNAIL = 48  # pixels; shown at half the size, so they are sharp on any display

_BOX = "font:13px/1.4 system-ui,sans-serif;max-width:100%"
_TABLE = "border-collapse:collapse;table-layout:auto;margin:6px 0;font-size:12px;border:0"
_HEAD = "padding:2px 8px;font-weight:600;opacity:.75;border:0;background:transparent;white-space:nowrap"
_CELL = "padding:3px 8px;border:0;border-top:1px solid #7f7f7f40;white-space:nowrap"


def picture_html(result: PictureResult) -> str:
    """One picture: annotated where the result holds pixels, and under it a row per face."""
    parts = [_picture(result), _caption(_name(result.source, "b"), _said_of(result))]
    if result.faces:
        rows = (_face_row(_thumbnail(result, face), face, result.classes) for face in result.faces[:_ROWS])
        parts.append(_table("", result.classes, rows))
    return _whole(parts, len(result) - _ROWS)


def pictures_html(results: Sequence[PictureResult]) -> str:
    """Many pictures: what there is in all, and a row per face of the first ones."""
    classes = list(dict.fromkeys(name for result in results for name in result.classes))
    faces, unread = sum(map(len, results)), sum(result.error is not None for result in results)
    said = [
        count(len(results), "picture"),
        count(faces, "face"),
        *([f"{unread:,} could not be read"] if unread else []),
    ]
    rows = [row for result in results[:_ROWS] for row in _rows_of(result, classes)]
    parts = [_caption(*said), _table("picture", classes, rows[:_ROWS]) if rows else ""]
    return _whole(parts, sum(max(len(result), 1) for result in results) - _ROWS)


def _whole(parts: Sequence[str], more: int) -> str:
    rest = _caption(f"{more:,} more; <code>to_pandas()</code> has all") if more > 0 else ""
    return f'<div style="{_BOX}">{"".join(parts)}{rest}</div>'


def _rows_of(result: PictureResult, classes: Sequence[str]) -> Iterator[str]:
    name = _name(result.source)
    for face in result.faces:
        yield _face_row(name, face, classes)
        name = ""
    if not result.faces:
        said = _text(result.error) if result.error is not None else "no face"
        yield _row(
            _cell(name), f'<td colspan="{1 + len(classes)}" style="{_CELL};text-align:left;opacity:.75">{said}</td>'
        )


def _face_row(first: str, face: FaceEmotion, classes: Sequence[str]) -> str:
    dot = f'<span style="color:{color_of(face.label)}">&#9679;</span>' if face.label in face.probabilities else "?"
    label = f"{dot} <b>{_text(face.label)}</b> {face.confidence:.0%}"
    return _row(_cell(first), _cell(label), *(_bar(name, face) for name in classes))


def _bar(name: str, face: FaceEmotion) -> str:
    p = face.probabilities.get(name)
    if p is None:
        return _cell("")
    share = f"{p:.0%}"
    number = f"<b>{share}</b>" if p == face.confidence else share
    bar = f"linear-gradient(90deg,{color_of(name)} {100 * p:.1f}%,#7f7f7f38 0)"
    return _cell(f'{number}<div style="height:5px;min-width:48px;border-radius:2px;background:{bar}"></div>', "right")


def _table(first: str, classes: Sequence[str], rows: Sequence[str] | Iterator[str]) -> str:
    heads = [f'<th style="{_HEAD};text-align:left">{text}</th>' for text in (first, "emotion")]
    heads += [f'<th style="{_HEAD};text-align:right">{_text(name)}</th>' for name in classes]
    # A table of many classes scrolls sideways instead of spilling over the page.
    return (
        f'<div style="overflow-x:auto"><table style="{_TABLE}"><thead>{_row(*heads)}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(*cells: str) -> str:
    # Notebooks stripe rows in colours that fight with the bars.
    return f'<tr style="background:transparent;border:0">{"".join(cells)}</tr>'


def _cell(content: str, align: str = "left") -> str:
    return f'<td style="{_CELL};text-align:{align}">{content}</td>'


def _caption(*said: str) -> str:
    return f'<div style="margin:4px 0">{" &middot; ".join(said)}</div>'


def _said_of(result: PictureResult) -> str:
    if result.error is not None:
        return _text(result.error)
    return f"{result.width:,} &times; {result.height:,} &middot; {count(len(result), 'face') if result.faces else 'no face'}"


def _picture(result: PictureResult) -> str:
    if result.pixels is None:
        return ""
    # Here, because most results never show their picture.
    from ferkit.render.drawing import annotate

    source = _jpeg(annotate(result.pixels, result, bars=False, longest=_LONGEST_SIDE), quality=82)
    style = "display:block;max-width:min(100%,720px);max-height:600px;width:auto;height:auto;margin:0"
    return f'<img alt="The picture with its faces framed" src="{source}" style="{style}">'


def _thumbnail(result: PictureResult, face: FaceEmotion) -> str:
    if result.pixels is None:
        return ""
    box = face.box
    cut = PIL.Image.fromarray(result.pixels[box.y1 : box.y2, box.x1 : box.x2])
    cut.thumbnail((2 * _THUMBNAIL, _THUMBNAIL))
    size = f"height:{_THUMBNAIL // 2}px;width:auto;margin:0;border-radius:3px;display:block"
    return f'<img alt="" src="{_jpeg(np.asarray(cut), quality=80)}" style="{size}">'


def _jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> str:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _name(source: str, tag: str = "span") -> str:
    """The end of a name that may be long, its whole in a tooltip; `bdi` keeps letters from reordering what follows."""
    short = source if len(source) <= _LONGEST_NAME else f"…{source[1 - _LONGEST_NAME :]}"
    return f'<{tag} title="{_text(source)}"><bdi>{_text(short)}</bdi></{tag}>'


def _text(text: str) -> str:
    return escape(
        re.sub(r"[\x00-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text[:500].encode("utf-8", "replace").decode())
    )
