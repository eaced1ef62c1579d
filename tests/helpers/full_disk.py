"""A disk that is full, for the tests of what is written."""

from contextlib import contextmanager

import pytest


@contextmanager
def no_room_beyond(size: int):
    """As long as the block lasts, no file of this process takes more bytes: the last write that fits is cut short."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
