"""Where files go and how they are written: the cache folder, and writes that never leave half a file."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from ferkit.errors import FerkitError


def cache_folder() -> Path:
    """Folder for downloads and parsed data sets: `FERKIT_CACHE`, else the platform's user cache. Not created here."""
    return Path(os.environ.get("FERKIT_CACHE") or platformdirs.user_cache_dir("ferkit", appauthor=False))


@contextmanager
def write_atomically(target: Path, error: type[FerkitError] = FerkitError) -> Iterator[Path]:
    """Yield a path beside `target` to write to; rename it onto `target` when the block ends well.

    A reader sees the old file or the new one, never half of one, even after `kill -9` or on a full disk. A link stays a
    link: the file it leads to is replaced. Trouble with the disk becomes an `error` of one clear line.
    """
    if target.exists() and not target.is_file():
        # Renaming onto /dev/null as root would take it from the whole machine.
        raise error(f"Cannot write {target}: it is there and is no regular file. Choose another name.")
    if target.is_symlink():
        target = target.resolve()
    # The suffix stays at the end: many writers choose their format by it.
    draft = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as problem:
        raise error(
            f"Cannot write {target}: {problem.strerror or problem}. Free space or choose another place."
        ) from problem
    finally:
        # Where the folder itself is the trouble, there is no draft; the error above says all there is to say.
        with suppress(OSError):
            draft.unlink(missing_ok=True)
