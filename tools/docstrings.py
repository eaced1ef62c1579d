"""Docstrings as Markdown: an extension of Griffe, which reads them for the site.

They are written for people who read the code: `name: meaning` on a line of its own, examples after `>>>`. Markdown would
run the first together and take the second for quotations.
"""

import re
import textwrap
from typing import Any

import griffe

ENTRY = re.compile(r"^(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<meaning>.+)$")
EXAMPLE = re.compile(r"^Example:\n((?:(?: {4}.*)?(?:\n|$))+)", re.MULTILINE)
SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$", re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*(?:\n|$))+)")


class PlainDocstrings(griffe.Extension):
    """Turns entries into lists and examples into code, in every docstring that Griffe meets."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    r"""The docstring with a list item for each entry and a code block for each run of examples.

    >>> print(as_markdown("How it goes.\n\nepochs, batch_size: how many;\n    and so on."))
    How it goes.
    <BLANKLINE>
    - `epochs`, `batch_size`: how many;
        and so on.
    """
    lines: list[str] = []
    code = False
    text = EXAMPLE.sub(_fenced, docstring)
    if not SECTION.search(text):  # in which what is indented is no code
        text = INDENTED.sub(lambda found: f"```python\n{textwrap.dedent(found[1]).strip()}\n```\n", text)
    for line in text.split("\n"):
        if not code and line.startswith(">>> "):
            lines, code = [*lines, "```python"], True
        elif code and not line.strip():
            lines, code = [*lines, "```"], False
        entry = None if code else ENTRY.match(line)
        if entry is None:
            lines.append(line)
            continue
        if lines and lines[-1].strip() and not lines[-1].startswith(("- ", "    ")):
            lines.append("")
        names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
        lines.append(f"- {names}: {entry['meaning']}")
    return "\n".join([*lines, "```"] if code else lines)


def _fenced(example: re.Match[str]) -> str:
    return f"Example:\n\n```python\n{textwrap.dedent(example[1]).strip()}\n```\n"
