"""A report as Markdown: headings, paragraphs, lists, tables, code. Plots and faces are left out.

Nothing in a text is taken for markup, whatever stands in it, by readers of Markdown or of HTML.
"""

import re
from functools import singledispatch

from ferkit.render.document import (
    Block,
    Bullets,
    Cell,
    Code,
    CodeBlock,
    DataTable,
    Document,
    Heading,
    Inline,
    Metrics,
    Text,
    flat,
)


def to_markdown(document: Document) -> str:
    """The report with its title as the first heading; a section in which nothing can be shown is left out."""
    written = [f"# {_words(document.title)}", *([_inline(document.about)] if document.about else [])]
    for section in document.sections:
        blocks = list(filter(None, (_markdown(block) for block in flat(section.blocks))))
        if blocks:
            written += [f"## {_words(section.title)}", *blocks] if section.title else blocks
    return "\n\n".join(written) + "\n"


def _inline(content: Inline) -> str:
    return "".join(map(_words, (content,) if isinstance(content, str) else content))


def _words(part: str) -> str:
    """Text with nothing in it that Markdown or HTML would take for markup."""
    if isinstance(part, Code):  # nothing can be escaped between backticks
        shown = re.sub(r"[`|]", "'", " ".join(part.split()))
        return f"`{shown}`"
    # An underscore within a word is none of emphasis.
    return re.sub(r"([\\`*{}\[\]<>|#~]|(?<!\w)_|_(?!\w))", r"\\\1", re.sub(r"\s+", " ", part))


@singledispatch
def _markdown(block: Block) -> str:
    """A block that Markdown cannot show is an empty string."""
    return ""


@_markdown.register
def _text(block: Text) -> str:
    return f"> {_inline(block.content)}" if block.quote else _inline(block.content)


@_markdown.register
def _heading(block: Heading) -> str:
    return f"### {_words(block.content)}"


@_markdown.register
def _bullets(block: Bullets) -> str:
    return "\n".join(f"- {_inline(item)}" for item in block.items)


@_markdown.register
def _code_block(block: CodeBlock) -> str:
    return f"```{block.language}\n{block.content}\n```"


@_markdown.register
def _metrics(block: Metrics) -> str:
    return "\n".join(f"- {_words(one.name)}: **{_words(one.value)}**. {_words(one.about)}" for one in block.items)


@_markdown.register
def _table(block: DataTable) -> str:
    heads = [*map(_words, block.heads)] or [""] * len(block.rows[0])
    lines = [f"| {' | '.join(row)} |" for row in (heads, *([_cell(cell) for cell in row] for row in block.rows))]
    return "\n".join((lines[0], f"|{'---|' * len(heads)}", *lines[1:]))


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _words(cell)
    text = f"**{_inline(cell.text)}**" if cell.strong else _inline(cell.text)
    return f"{text} ({_words(cell.note)})" if cell.note else text
