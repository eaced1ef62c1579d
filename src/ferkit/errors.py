"""What can go wrong, by the part of the work that failed.

Every message says what came, what was expected and what to do. The command line prints it as one line and leaves with
`exit_code`; Python users catch `FerkitError`, which is a `ValueError`.

Counts in words, as every message has them.
"""

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
    line = " ".join(part for part in text.splitlines() if part)
    return "".join(letter if letter.isprintable() or letter.isspace() else ascii(letter)[1:-1] for letter in line)


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
