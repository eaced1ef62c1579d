"""A report as one HTML page: one file that explains itself, with no script and nothing from another host.

Everything that comes from a document is escaped here and nowhere else.
"""

import base64
import json
import re
from functools import singledispatch
from html import escape as escape_markup
from importlib import resources
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ferkit._support.files import write_atomically
from ferkit.labels import color_of
from ferkit.render.document import (
    Beside,
    Block,
    Bullets,
    Cell,
    ClassName,
    Code,
    CodeBlock,
    DataTable,
    Document,
    FaceGallery,
    FaceTile,
    Figure,
    Heading,
    Inline,
    Metrics,
    Photo,
    Row,
    Section,
    Source,
    Text,
    to_json,
)

# The page cannot load or run anything that is not in the file itself, whatever a class name or a card holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LONGEST_SOURCE = 48  # letters


def escape(text: str) -> str:
    """Text without markup, and without characters that no page may hold."""
    shown = text.encode("utf-8", "replace").decode()
    return escape_markup(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", shown))


def write_page(document: Document, folder: Path, *, data: str = "report.json") -> Path:
    """Write `index.html`, which holds everything, with its plots in `figures/` and its numbers in the file `data`.

    Returns the path of the page. Raises `FerkitError` if the folder cannot be written.
    """
    page = to_html(document, folder / "figures")
    with write_atomically(folder / data) as draft:
        draft.write_text(json.dumps(to_json(document), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with write_atomically(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def to_html(document: Document, figures: Path) -> str:
    """The whole page. figures: the folder into which plots are drawn; the page holds copies of them."""
    style = (resources.files("ferkit.render") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(_section(one, figures) for one in document.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(document.title)} - ferkit report</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(document.title)}</h1>
<p>{_inline(document.about)}</p>
</header>
<main>
{body}
</main>
<footer><p>Written by ferkit.</p></footer>
</body>
</html>"""


def blocks_to_html(blocks: tuple[Block, ...]) -> str:
    """Blocks without plots and galleries as a piece of a page, in the classes of `page.css`."""
    return "".join(_html(block, Path()) for block in blocks)


def inline_png(pixels: npt.NDArray[np.uint8]) -> str:
    """Pixels, uint8 (H, W, 1 or 3), as an address that holds them."""
    stream = BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(stream, "PNG", optimize=True)
    return _address(stream.getvalue())


def _inline_jpeg(pixels: npt.NDArray[np.uint8]) -> str:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=82, subsampling=0)
    return _address(stream.getvalue(), "jpeg")


def _address(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _section(section: Section, figures: Path) -> str:
    classes = " ".join(name for name, is_so in (("wide", section.wide), ("notice", section.notice)) if is_so)
    body = "".join(_html(block, figures) for block in section.blocks)
    return f'<section class="{classes}"><h2>{escape(section.title)}</h2>{body}</section>'


def _inline(content: Inline) -> str:
    return "".join(map(_words, (content,) if isinstance(content, str) else content))


def _words(part: str) -> str:
    if isinstance(part, Code):
        return f"<code>{escape(part)}</code>"
    if isinstance(part, ClassName):
        return f'<span class="dot" style="background:{color_of(part)}"></span>{escape(part)}'
    if isinstance(part, Source):
        short = part if len(part) <= _LONGEST_SOURCE else f"\N{HORIZONTAL ELLIPSIS}{part[1 - _LONGEST_SOURCE :]}"
        return f'<bdi title="{escape(part)}">{escape(short)}</bdi>'
    return escape(part)


def _kind(name: str, is_so: bool) -> str:
    return f' class="{name}"' if is_so else ""


@singledispatch
def _html(block: Block, figures: Path) -> str:
    raise TypeError(f"A page knows no block of this kind. Received: {block!r}.")


@_html.register
def _text(block: Text, _: Path) -> str:
    if block.quote:
        return f"<blockquote><p>{_inline(block.content)}</p></blockquote>"
    return f"<p{_kind('context', block.quiet)}>{_inline(block.content)}</p>"


@_html.register
def _heading(block: Heading, _: Path) -> str:
    return f"<h3>{escape(block.content)}</h3>"


@_html.register
def _bullets(block: Bullets, _: Path) -> str:
    return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in block.items)}</ul>"


@_html.register
def _code_block(block: CodeBlock, _: Path) -> str:
    return f'<div class="scroll" tabindex="0"><pre><code>{escape(block.content)}</code></pre></div>'


@_html.register
def _metrics(block: Metrics, _: Path) -> str:
    tiles = "\n".join(
        f"<div><dt>{escape(one.name)}</dt><dd><strong>{escape(one.value)}</strong><small>{escape(one.about)}</small></dd></div>"
        for one in block.items
    )
    return f'<dl class="tiles">{tiles}</dl>'


@_html.register
def _table(block: DataTable, _: Path) -> str:
    left = [block.is_left(index) for index in range(len(block.columns or (block.rows or ((),))[0]))]
    heads = "".join(
        f'<th{_kind("words", is_left)} scope="col">{_words(name)}</th>'
        for name, is_left in zip(block.heads, left, strict=False)
    )
    rows = "".join(_row(row, left) for row in block.rows)
    # Focusable, because a wide table scrolls sideways and a keyboard must be able to do it.
    table = (
        f'<div class="scroll" tabindex="0"><table>{f"<thead><tr>{heads}</tr></thead>" if heads else ""}\n'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return f"<details><summary>{escape(block.folded)}</summary>{table}</details>" if block.folded else table


def _row(row: Row, left: list[bool]) -> str:
    name, *others = (_cell(cell) for cell in row)
    cells = (f"<td{_kind('words', is_left)}>{cell}</td>" for cell, is_left in zip(others, left[1:], strict=True))
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _words(cell)
    text = f"<strong>{_inline(cell.text)}</strong>" if cell.strong else _inline(cell.text)
    if cell.face is not None:
        text = f'<img class="thumbnail" alt="" src="{_inline_jpeg(cell.face)}">{text}'
    bar = ""
    if cell.bar is not None:
        share, name = cell.bar
        bar = f'<i class="bar" style="background:{color_of(name)};width:{100 * share:.1f}%"></i>'
    return text + bar + (f"<small>{escape(cell.note)}</small>" if cell.note else "")


@_html.register
def _figure(block: Figure, figures: Path) -> str:
    """Drawn for light and for dark pages; the reader's system picks."""
    from ferkit.render.style import DARK, LIGHT

    light, dark = figures / f"{block.name}.png", figures / f"{block.name}-dark.png"
    block.draw(light, LIGHT)
    block.draw(dark, DARK)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_address(dark.read_bytes())}">'
        f'<img alt="{escape(block.alt)}" src="{_address(light.read_bytes())}"></picture>'
    )


@_html.register
def _photo(block: Photo, _: Path) -> str:
    return f'<img class="photo" alt="{escape(block.alt)}" src="{_inline_jpeg(block.pixels)}">'


@_html.register
def _faces(block: FaceGallery, figures: Path) -> str:
    if block.name:
        from ferkit.render.style import draw_gallery

        draw_gallery(block.tiles[: block.in_picture], figures / f"{block.name}.png")
    tiles = "".join(map(_tile, block.tiles))
    return f'<ul class="faces">{tiles}</ul>' if tiles else "<p>None.</p>"


def _tile(tile: FaceTile) -> str:
    stops = ", ".join(
        f"{color_of(answer)} {100 * place / len(tile.answers):.0f}% {100 * (place + 1) / len(tile.answers):.0f}%"
        for place, answer in enumerate(tile.answers)
    )
    strip = f"border-image: linear-gradient(90deg, {stops}) 1"
    return (
        f'<li><figure><img alt="{escape(tile.alt)}" src="{inline_png(tile.face)}" style="{strip}"><figcaption>'
        f"{escape(tile.caption)}<small>{'<br>'.join(map(escape, tile.below))}</small></figcaption></figure></li>"
    )


@_html.register
def _beside(block: Beside, figures: Path) -> str:
    left, right = ("".join(_html(one, figures) for one in side) for side in (block.left, block.right))
    return f'<div class="{"halves" if block.even else "pair"}"><div>{left}</div><div>{right}</div></div>'
