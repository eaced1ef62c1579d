"""A picture by its name, and what sources are called in results and messages. Needs no library that is slow to load."""

import io
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from ferkit.sources.listing import CONTAINER_SUFFIXES, Reference
from ferkit.sources.stores import is_address

STDIN = "-"
_LONGEST_PATH = 4096


class InMemory(io.BytesIO):
    """An encoded picture that knows its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


@dataclass(frozen=True)
class Picture:
    """A picture by its name, its bytes at hand or its place known.

    Attributes:
        name: What results call it.
        source: A path, an address, or the bytes; None where there is a `problem`.
        problem: Why it cannot be read, in one line.
        cut: Whether it is a face that was cut before, in which none is looked for.
    """

    name: str
    source: str | InMemory | None
    problem: str | None = None
    cut: bool = False


def name_of(source: object) -> str:
    """What results call a source: its path or address where it has one; long ones are cut short."""
    if isinstance(source, str | os.PathLike):
        text = os.fsdecode(source)
        if is_data_uri(text):
            head, _, body = text.partition(",")
            return f"{head[:40]},... ({size_in_words(len(body) * 3 // 4 if is_base64(head) else len(body))})"
        return text if len(text) <= _LONGEST_PATH else f"{text[:60]}... ({len(text):,} letters)"
    if isinstance(source, Picture | Reference):
        return source.name
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if _is_a(source, "numpy.ndarray"):
        return "array"
    if _is_a(source, "PIL.Image.Image"):
        name = getattr(source, "filename", "")
        return os.fsdecode(name) if name else "PIL image"
    if callable(getattr(source, "read", None)):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) and name else "file"
    return type(source).__name__


def path_of(name: str) -> Path:
    """What to name a file after that is made of a source of this name: its path, or the last part of its address.

    >>> str(path_of("https://example.org/photos/me.png?size=large"))
    'me.png'
    """
    if is_data_uri(name):
        return Path("picture")
    if is_address(name):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(name).path.rpartition("/")[2])) or "picture")
    return Path({STDIN: "stdin"}.get(name, name))


def member_path(name: str) -> Path | None:
    """The same for a picture that is inside of another file: its path there, below a folder named after that file.

    Relative, and without parts that lead out of that folder. None for all other names.

    >>> member_path("holidays.zip::sea/1.jpg").as_posix()
    'holidays/sea/1.jpg'
    """
    for mark in re.finditer("::", name):
        container = path_of(name[: mark.start()]).name
        ending = next((ending for ending in CONTAINER_SUFFIXES if container.lower().endswith(ending)), None)
        if ending is not None:
            parts = [container[: -len(ending)], *name[mark.end() :].split("/")]
            return Path(*(part for part in parts if part.strip(".")))
    return None


def printable_name(source: object) -> str:
    """The same for messages: in one line, without letters that a terminal would obey."""
    name = name_of(source)
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def is_data_uri(text: str) -> bool:
    return text[:5].lower() == "data:"


def is_base64(head: str) -> bool:
    return head.lower().rstrip().endswith(";base64")


def size_in_words(count: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (1000, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


def _is_a(thing: object, name: str) -> bool:
    """`isinstance` for a class whose module nobody may have loaded: then there is no object of it either."""
    module, _, kind = name.rpartition(".")
    found = getattr(sys.modules.get(module), kind, None)
    return found is not None and isinstance(thing, found)
