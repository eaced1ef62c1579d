"""Where files go and how they are written: the cache folder, and writes that never leave half a file."""

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import platformdirs

from ferkit.errors import FerkitError


def cache_folder() -> Path:
    """Folder for downloads and parsed data sets: `FERKIT_CACHE`, else the platform's user cache. Not created here."""
    return Path(os.environ.get("FERKIT_CACHE") or platformdirs.user_cache_dir("ferkit", appauthor=False))


@contextmanager
def write_atomically(target: str | Path, error: type[FerkitError] = FerkitError) -> Iterator[Path]:
    """Yield a path beside `target` to write to; rename it onto `target` when the block ends well.

    A reader sees the old file or the new one, never half of one, even after `kill -9` or on a full disk. A link stays a
    link: the file it leads to is replaced. Every OSError of the block is taken for trouble with this file and becomes
    an `error` of one clear line; a block in which other code runs as well takes `drafted`.
    """
    with blame(target, error), drafted(target, error) as draft:
        yield draft


@contextmanager
def drafted(target: str | Path, error: type[FerkitError] = FerkitError) -> Iterator[Path]:
    """`write_atomically` for blocks that do more than write: what they raise passes unchanged.

    Such a block puts its own writes under `blame`.
    """
    target = Path(target)
    with blame(target, error):
        if target.exists() and not target.is_file():
            # Renaming onto /dev/null as root would take it from the whole machine.
            raise error(f"Cannot write {target}: it exists and is not a regular file. Choose another name.")
        if target.is_symlink():
            target = target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(target)
    try:
        yield draft
        with blame(target, error):
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(target)
    finally:
        # Where the folder itself is the trouble, there is no draft; the error says all there is to say.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _draft_of(target: Path) -> Path:
    # The suffix stays at the end: many writers choose their format by it.
    return target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")


# As `_draft_of` names them.
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}(\.[^.]*)?")


def sweep(folder: Path, *, untouched_s: float = 86_400.0) -> None:
    """Remove the drafts in a folder of ferkit's own that nobody has written to for so long: `kill -9` leaves them.

    By default those of a day, for another process may be at work in the folder.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _DRAFT.fullmatch(path.name) and time.time() - path.stat().st_mtime >= untouched_s:
                path.unlink(missing_ok=True)


def create(target: Path, content: bytes) -> None:
    """Write a file that must not be there yet: of two processes one makes it, the other gets `FileExistsError`.

    It appears whole or not at all. Raises `OSError`.
    """
    draft = _draft_of(target)
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, target)  # unlike a rename, it refuses a name that is taken
        except FileExistsError:
            raise
        except OSError:
            _create_without_links(target, content)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _create_without_links(target: Path, content: bytes) -> None:
    """For file systems that have none; a process that is killed in here leaves an empty file."""
    target.open("xb").close()
    try:
        target.write_bytes(content)
    except OSError:
        target.unlink(missing_ok=True)
        raise


@contextmanager
def blame(target: str | Path, error: type[FerkitError] = FerkitError) -> Iterator[None]:
    """Turn an OSError of the block into an `error` that names `target`, the file that the block writes."""
    try:
        yield
    except OSError as problem:
        raise error(
            f"Cannot write {target}: {problem.strerror or problem}. Free space or choose another place."
        ) from problem


def write_encoded(
    target: str | Path, encode: Callable[[BytesIO], object], error: type[FerkitError] = FerkitError
) -> None:
    """Write atomically what `encode` writes into a stream.

    Through memory, for Pillow hands its JPEG encoder the descriptor of a real file, and that one takes no notice of
    bytes for which a full disk has no room: half a picture would be taken for a whole one.
    """
    with write_atomically(target, error) as draft:
        stream = BytesIO()
        encode(stream)
        # Not its buffer: an error that holds one crashes the garbage collector of Python 3.12.1
        # (python/cpython#111049).
        draft.write_bytes(stream.getvalue())
