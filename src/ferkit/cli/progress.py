"""A progress bar for reading data, on standard error."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ferkit.cli.console import notes

# What is done sooner needs no bar; a cached set never shows one.
PATIENCE_S = 0.5


@contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield the `progress` that `load_dataset` takes; nothing is shown where nobody watches (pipes, logs)."""
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
