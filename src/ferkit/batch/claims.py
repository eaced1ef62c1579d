"""One driver per OUT: where two ran at once they would do everything twice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ferkit.batch.job import FOLDER
from ferkit.batch.storage import is_address
from ferkit.errors import FerkitError
from ferkit.files import blame

try:
    import fcntl
except ImportError:  # Windows: there two drivers write the same rows to the same files, which harms nothing
    fcntl = None  # type: ignore[assignment]


@contextmanager
def claimed(out: str) -> Iterator[None]:
    """Keep other drivers from a local OUT as long as the block lasts. What holds it ends with the process, however that
    ends. Object stores have nothing of the kind: two drivers that find the same plan there write the same rows to the
    same files; see `ferkit.batch.planning` for two that plan.
    """
    if is_address(out) or fcntl is None:
        yield
        return
    path = Path(out) / FOLDER / "lock"
    with blame(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FerkitError(f"Another run is at work on {out}. Wait for its end, or stop it.") from None
        except OSError:
            pass  # a file system that knows no locks
        yield
    finally:
        os.close(descriptor)
