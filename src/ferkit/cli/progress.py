"""Progress bars on standard error: for reading data, and for downloads."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ferkit.cli.console import notes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# What is done sooner needs no bar; a cached set never shows one.
PATIENCE_S = 0.5


@contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield the `progress` that `load_dataset` takes; nothing is shown where nobody watches (pipes, logs)."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)
    task = bar.add_task("Reading", total=None)
    started = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        if time.monotonic() - started > PATIENCE_S:
            bar.start()
            bar.update(task, description=what, completed=done, total=total or None)

    try:
        yield show
    finally:
        bar.stop()


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield the `progress` that `ferkit.download` takes; the bar begins with the first bytes, and mostly there are none."""
    bar: Progress | None = None
    task: TaskID | None = None

    def show(url: str, done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None or task is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
            bar = Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)
            task = bar.add_task(f"Downloading {url.rpartition('/')[2]}", total=None)
            bar.start()
        bar.update(task, completed=done, total=total or None)

    try:
        yield show
    finally:
        if bar is not None:
            bar.stop()
