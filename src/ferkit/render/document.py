"""What every page of a report is: one file that explains itself, with no script and nothing from another host.

The pieces that a report page is made of: sections, tables, numbers, pictures inside the file.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib import resources
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ferkit.labels import color_of
from ferkit.render.style import DARK, LIGHT, Theme

# The page cannot load or run anything that is not in the file itself, whatever a class name or a card holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, about: str, sections: Iterable[str]) -> str:
    """A whole page. title: plain text. about: HTML, a sentence below the title. sections: of `parts.section`."""
    style = (resources.files("ferkit.render") / "page.css").read_text(encoding="utf-8")
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)} - ferkit report</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p>{about}</p>
</header>
<main>
{body}
</main>
<footer><p>Written by ferkit.</p></footer>
</body>
</html>"""


def section(title: str, text: str, body: str, *, wide: bool = False, kind: str = "") -> str:
    classes = " ".join(filter(None, ("wide" if wide else "", kind)))
    paragraph = f"<p>{text}</p>" if text else ""
    return f'<section class="{classes}"><h2>{title}</h2>{paragraph}{body}</section>'


def scrolling_table(head: str, rows: Sequence[str]) -> str:
    # Focusable, because a wide table scrolls sideways and a keyboard must be able to do it.
    heads = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll" tabindex="0"><table>{heads}\n<tbody>{"".join(rows)}</tbody></table></div>'


def table_head(*names: str) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def table_row(name: str, *cells: str) -> str:
    """A row that begins with its name; all are HTML."""
    return f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def class_name(name: str) -> str:
    return f'<span class="dot" style="background:{color_of(name)}"></span>{escape(name)}'


def number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def both_themes(folder: Path, name: str, plot: Callable[[Path, Theme], None], alt: str) -> str:
    """Draw for light and for dark pages; the reader's system picks."""
    light, dark = folder / f"{name}.png", folder / f"{name}-dark.png"
    plot(light, LIGHT)
    plot(dark, DARK)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_inline(dark.read_bytes())}">'
        f'<img alt="{alt}" src="{_inline(light.read_bytes())}"></picture>'
    )


def inline_face(face: npt.NDArray[np.uint8]) -> str:
    """A face, uint8 (H, W, 1 or 3), as an address that holds it."""
    stream = BytesIO()
    Image.fromarray(face.squeeze(-1) if face.shape[-1] == 1 else face).save(stream, "PNG", optimize=True)
    return _inline(stream.getvalue())


def face_tile(face: npt.NDArray[np.uint8], answers: Sequence[str], alt: str, caption: str, below: str) -> str:
    """A face, uint8 (H, W, 1 or 3), over a strip of its answers' colours; alt, caption and below are HTML."""
    stops = ", ".join(
        f"{color_of(answer)} {100 * place / len(answers):.0f}% {100 * (place + 1) / len(answers):.0f}%"
        for place, answer in enumerate(answers)
    )
    strip = f"border-image: linear-gradient(90deg, {stops}) 1"
    return (
        f'<li><figure><img alt="{alt}" src="{inline_face(face)}" style="{strip}">'
        f"<figcaption>{caption}<small>{below}</small></figcaption></figure></li>"
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
