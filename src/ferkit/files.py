"""Where files go and how they are written: the cache folder, and writes that never leave half a file."""

import os
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
    link: the file it leads to is replaced. Every OSError of the block is taken for trouble with this file and becomes an
    `error` of one clear line; a block in which other code runs as well takes `drafted`.
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
            raise error(f"Cannot write {target}: it is there and is no regular file. Choose another name.")
        if target.is_symlink():
            target = target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end: many writers choose their format by it.
    draft = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
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
        draft.write_bytes(stream.getbuffer())
