"""What can go wrong, by the part of the work that failed.

Every message says what came, what was expected and what to do. The command line prints it as one line and leaves with
`exit_code`; Python users catch `FerkitError`, which is a `ValueError`.

Counts in words, as every message has them.
"""

import re
import unicodedata

# Names, paths and what libraries say go into messages, and may come from a stranger.
_LONGEST = 2000


def one_line(text: str) -> str:
    r"""Text as a line that a terminal shows and does not obey; what is very long loses its middle.

    >>> one_line("no picture: a\nb\x1b[2J.png")
    'no picture: a b\\x1b[2J.png'
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST * 3 // 4]} ... {text[-_LONGEST // 4 :]}"
    if text.isprintable():
        return text
    return escaped(" ".join(part for part in text.splitlines() if part))


def escaped(text: str, kept: str = "\n\t") -> str:
    r"""Text without characters that a terminal obeys: they are written as in Python. Blanks of all widths stay.

    >>> escaped("a\x1b[2J\u3000b.png")
    'a\\x1b[2J\u3000b.png'
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in kept or unicodedata.category(one) == "Zs" else ascii(one)[1:-1]
        for one in text
    )


# As libraries say it that raise no MemoryError: ONNX Runtime, OpenCV, Pillow, the loader of shared libraries, threads, and
# Python itself where there is no memory for the error either.
_NO_MEMORY = re.compile(
    "failed to allocate|(cannot|unable to) allocate|insufficient memory|out of memory|bad_?alloc|start new thread|"
    "failed to map segment|decoder error -9|error return without exception",
    re.IGNORECASE,
)


def lacks_memory(problem: BaseException) -> bool:
    """Whether an error of any library says that there is not enough memory."""
    return isinstance(problem, MemoryError) or _NO_MEMORY.search(str(problem)) is not None


class FerkitError(ValueError):
    """Base of all errors that a user's input or environment can cause. Its message is one line, whatever went into it."""

    exit_code = 1

    def __init__(self, *words: object) -> None:
        super().__init__(*(one_line(word) if isinstance(word, str) else word for word in words))


class UsageError(FerkitError):
    """A choice or a value that makes no sense whatever the data: an unknown recipe, zero epochs."""

    exit_code = 2


class ImageError(FerkitError):
    """A picture that cannot be read."""


class VideoError(FerkitError):
    """A video that cannot be read or written."""


class DownloadError(FerkitError):
    """A file that cannot be fetched, or is not the one that was expected."""


class DatasetError(FerkitError):
    """A data set that cannot be read or does not hold what was asked for."""


class ModelError(FerkitError):
    """A model that cannot be loaded, saved or trusted."""


class TrainingError(FerkitError):
    """A training run that cannot start, go on or be written."""


class ClusterError(FerkitError):
    """A Ray cluster that cannot be started or reached, or that loses what it works on."""


class MissingDependencyError(FerkitError, ImportError):
    """An optional part that is not installed; the message names the extra to install."""


def count(number: int, thing: str) -> str:
    """`1 picture`, `2,000 pictures`.

    >>> count(1, "face"), count(2000, "face")
    ('1 face', '2,000 faces')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
