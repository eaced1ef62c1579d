"""What all commands share: where words go, how errors end, how JSON leaves.

Progress bars on standard error: for reading data, and for downloads.
"""

import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rich.console import Console
from typer.core import TyperGroup

from ferkit.errors import FerkitError, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Standard output belongs to results; notes, progress and errors go here.
notes = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False)


def print_json(document: Any) -> None:
    """Write one JSON document and nothing else to standard output."""
    # ASCII: a pipe may have any encoding, and JSON escapes what that cannot hold.
    json.dump(document, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")


def fail(message: str) -> None:
    """Print an error the way every command does: one line on standard error, without markup."""
    notes.print(f"ferkit: {' '.join(message.split())}", style="red", markup=False)


@contextmanager
def no_native_chatter() -> Iterator[None]:
    """Keep C libraries from writing to standard error: TensorFlow greets on import, libjpeg complains of each picture.

    They write past Python and before any log level counts, so the descriptor itself is turned away for the moment;
    what Python writes goes where it always went.
    """
    python, kept, nowhere = sys.stderr, os.dup(2), os.open(os.devnull, os.O_WRONLY)
    python.flush()
    try:
        if _is_descriptor(python, 2):
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, encoding=python.encoding, errors=python.errors)
        os.dup2(nowhere, 2)
        yield
    finally:
        if sys.stderr is not python:
            sys.stderr.close()
            sys.stderr = python
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (AttributeError, ValueError, OSError):  # what stands in for it in notebooks and tests
        return False


class _Notes(logging.Handler):
    """What ferkit logs, such as which detector it took, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        notes.print(record.getMessage(), markup=False)


class OneLineErrors(TyperGroup):
    """The commands; what Typer finds wrong with an option becomes one line like every other error, not three."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        # Told by what it can do: Typer took over Click's classes, and its public module does not name them.
        if not hasattr(problem, "format_message"):
            raise
        context = getattr(problem, "ctx", None)
        message = " ".join(str(problem.format_message()).split()).rstrip(".")
        if context is not None and message == " ".join(context.get_help().split()).rstrip("."):
            raise  # no arguments at all: the help is shown
        command = context.command_path if context is not None else "ferkit"
        end = "" if message.endswith("?") else "."
        raise UsageError(f"{message}{end}{_received(problem)} See '{command} --help'.") from problem


def _received(problem: Exception) -> str:
    """What came, where Pydantic refused a value: of its error Typer takes the words, which leave the value out."""
    errors = getattr(problem.__cause__, "errors", None)
    refused = errors() if callable(errors) else ()
    return f" Received: {refused[0]['input']}." if refused and "input" in refused[0] else ""


def run(app: Callable[[], Any]) -> None:
    """Run the command line; a `FerkitError` becomes one line and its exit code, never a traceback."""
    # What is logged and how much of it is for an application to say, so it is said here and not on import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    log = logging.getLogger("ferkit")
    log.setLevel(logging.INFO)
    log.handlers = [_Notes()]
    _open_streams()
    try:
        app()
        sys.stdout.flush()
    except FerkitError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except OSError as problem:  # errors about files are FerkitErrors, so what is left is standard output
        fail(f"Cannot write to standard output: {problem.strerror or problem}.")
        _leave(1)
    except SystemExit as leaving:
        # Typer turns Ctrl-C into this code without a word.
        if leaving.code == 130:
            fail("Interrupted.")
            _leave(130)
        raise


def _open_streams() -> None:
    """Make standard output and error such that whatever is written to them raises nothing odd."""
    # Closed ones are None: services start like that, and so does `2>&-`.
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    # A file name that the encoding of a pipe lacks is written out (\u65e5) and costs nobody the rest.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave(code: int) -> NoReturn:
    """End at once: threads that wait for a server far away are not waited for, and nothing is flushed again."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


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
    """Yield the `progress` that `ferkit._support.download` takes; the bar begins with the first bytes, and mostly there are none."""
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
