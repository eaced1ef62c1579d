"""Counts what a command changes on the disk and, if asked, kills it at one of the changes. Python loads this by itself.

`stress/kill.py` puts this folder onto the path of the commands it starts, so that nothing in them knows of it. All
processes of a command count together, in the size of one file.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


def _path_of(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What the event is about to change; None for every other event."""
    if event == "open":
        if not isinstance(arguments[2], int) or not arguments[2] & _WRITING:
            return None
    elif event not in _CHANGES:
        return None
    path = arguments[0]
    return None if path is None or isinstance(path, int) else os.fsdecode(path)


def _watch(place: str, counter: int, at: int, delay: float) -> None:
    def die() -> None:
        time.sleep(delay)
        os.killpg(0, signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = _path_of(event, arguments)
        if path is None or not path.startswith(place):
            return
        os.write(counter, b".")
        if os.fstat(counter).st_size == at:
            # With a delay the change happens and the command dies a little later, perhaps in the middle of a write.
            threading.Thread(target=die, daemon=True).start() if delay else die()

    sys.addaudithook(hook)


if "STRESS_COUNTER" in os.environ:
    _watch(
        os.environ["STRESS_PLACE"],
        os.open(os.environ["STRESS_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        int(os.environ.get("STRESS_DIE_AT", "0")),
        float(os.environ.get("STRESS_DELAY", "0")),
    )
