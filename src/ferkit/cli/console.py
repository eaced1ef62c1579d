"""What all commands share: the streams they print to, errors in one line, JSON, progress bars."""

import errno
import io
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.segment import Segment
from typer.core import TyperCommand, TyperGroup

from ferkit.errors import FerkitError, UsageError, count, escaped, lacks_memory


class _Console(Console):
    """Prints what it is told to, never what a terminal obeys: names of files and classes may hold escape characters."""

    def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
        for one in super().render(*args, **kwargs):
            # Rich's own control codes, such as those of a progress bar, are marked.
            yield one if one.control or one.text.isprintable() else Segment(escaped(one.text), one.style)


# Standard output is for results; notes, progress and errors go to standard error.
notes = _Console(stderr=True, highlight=False, soft_wrap=True)
output = _Console(highlight=False)


def print_json(document: Any) -> None:
    """Write one JSON document and nothing else to standard output."""
    # ASCII, because a pipe may have any encoding.
    json.dump(document, sys.stdout, allow_nan=False)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """Tell what happens, on standard error."""
    notes.print(text, markup=False)


def fail(message: str) -> None:
    """Print an error as one line on standard error, without markup."""
    notes.print(f"ferkit: {' '.join(message.split())}", style="red", markup=False)


def command(*words: object) -> str:
    """A command that a shell takes as it is printed.

    >>> command("evaluate", "my runs/1", "fer2013.csv")
    "ferkit evaluate 'my runs/1' fer2013.csv"
    """
    return shlex.join(["ferkit", *map(str, words)])


@contextmanager
def no_native_chatter() -> Iterator[None]:
    """Suppress what C libraries print to standard error, such as TensorFlow on import and libjpeg on invalid images.

    They bypass Python and its log levels, so the file descriptor is redirected; Python's own output is not affected.
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
    except (AttributeError, ValueError, OSError):  # replaced in notebooks and tests
        return False


class _Notes(logging.Handler):
    """Prints what ferkit logs as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def said_once() -> Iterator[None]:
    """Say each of the same messages about several models once."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message in said:
            return False
        said.add(message)
        return True

    handlers = logging.getLogger("ferkit").handlers
    for handler in handlers:
        handler.addFilter(is_new)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_new)


class OneOfEach(TyperCommand):
    """A command that refuses two files where it writes one: the second would silently replace the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # By the annotations: what Typer keeps of a type differs from version to version.
        annotations = getattr(self.callback, "__annotations__", {})
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        files = [one for one in given if not one.multiple and "pathlib" in str(annotations.get(one.name))]
        if twice := next((one for one in files if files.count(one) > 1), None):
            raise UsageError(
                f"{twice.opts[0]} was given more than once and takes one. See '{ctx.command_path} --help'."
            )
        return super().parse_args(ctx, args)


class OneLineErrors(TyperGroup):
    """The commands; usage errors of Typer become one line, like every other error."""

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
        # By duck typing: Typer vendors the classes of Click, and its public module does not export them.
        if not hasattr(problem, "format_message"):
            raise
        context = getattr(problem, "ctx", None)
        message = " ".join(str(problem.format_message()).split()).rstrip(".")
        if context is not None and message == " ".join(context.get_help().split()).rstrip("."):
            raise  # without arguments the help is shown
        command = context.command_path if context is not None else "ferkit"
        end = "" if message.endswith("?") else "."
        raise UsageError(f"{message}{end}{_received(problem)}{_missing(problem)} See '{command} --help'.") from problem


def _received(problem: Exception) -> str:
    """The value that Pydantic rejected: Typer prints its message only, which omits the value."""
    errors = getattr(problem.__cause__, "errors", None)
    refused = errors() if callable(errors) else ()
    return f" Received: {refused[0]['input']}." if refused and "input" in refused[0] else ""


def _missing(problem: Exception) -> str:
    """What is missing, as the help of that argument or option says it: a name alone may be as short as "B"."""
    explained = getattr(getattr(problem, "param", None), "help", None)
    return f" Expected: {explained.rstrip('.')}." if explained and hasattr(problem, "param_type") else ""


def run(app: Callable[[], Any]) -> None:
    """Run the command line; a `FerkitError` becomes one line and its exit code, not a traceback."""
    # Log levels are for applications to set, so they are set here and not on import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    log = logging.getLogger("ferkit")
    log.setLevel(logging.INFO)
    log.handlers = [_Notes()]
    _open_streams()
    try:
        _run_and_flush(app)
    except FerkitError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        # Typer turns Ctrl-C into this code without a message.
        if leaving.code == 130:
            fail("Interrupted.")
            leave(130)
        raise
    except Exception as problem:
        if (message := _explained(problem)) is None:
            raise
        try:
            fail(message)
        except MemoryError:  # not even for a line of Rich
            os.write(2, f"ferkit: {message}\n".encode())
        leave(1)


def _run_and_flush(app: Callable[[], Any]) -> None:
    try:
        app()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


# What a pipe, a disk or a closed descriptor answers to a write; of other errors ferkit knows which file is meant.
_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG)


def _explained(problem: Exception) -> str | None:
    """What went wrong around the program in one line; None for an error of ferkit's own."""
    if lacks_memory(problem):
        return "Not enough memory. Expected some 1 GB; raise the limit (ulimit -v), close programs or take a smaller model."
    if not isinstance(problem, OSError):
        return None
    if problem.filename is None and (problem.errno in _OUTPUT or isinstance(problem, BrokenPipeError)):
        return f"Cannot write to standard output: {problem.strerror or problem}."
    name = "" if problem.filename is None else f" {problem.filename}"
    return f"Cannot use{name or ' a file'}: {problem.strerror or problem}. Check the name and its permissions."


def _open_streams() -> None:
    """Open closed standard streams, and escape characters that their encoding lacks."""
    # Closed ones are None, as in some services and after `2>&-`.
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # What cannot be written to standard output is an error, and one to standard error can be told to nobody.
            descriptor = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    # A character of a file name that the encoding of a pipe lacks is escaped (\u65e5).
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def leave(code: int) -> NoReturn:
    """Exit at once, without waiting for threads and without flushing again."""
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


# Interval of progress lines where there is no terminal, as in the log of a cluster.
LINE_EVERY_S = 60.0
# Shorter work shows no bar; a cached dataset never shows one.
PATIENCE_S = 0.5


def progress_bar(*columns: Any, hidden: bool = False) -> Any:
    """A Rich progress bar on standard error, with further columns behind it; it disappears at the end.

    Nothing is shown if standard error is not a terminal, or if `hidden`.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), *columns)
    hidden = hidden or not notes.is_terminal
    return Progress(*columns, console=notes, transient=True, redirect_stdout=False, disable=hidden)


def read_and_found(images: int, faces: int, unread: int, what: str = "image") -> str:
    """What a command looked at, in words; that some could not be read only where it is so.

    >>> read_and_found(2, 1, 0), read_and_found(3, 1, 1)
    ('2 images, 1 face.', '3 images, 1 face; 1 could not be read.')
    """
    failed = f"; {unread:,} could not be read" if unread else ""
    return f"{count(images, what)}, {count(faces, 'face')}{failed}."


def name_left_out(sources: Iterable[str], *, videos: bool = False) -> None:
    """Say what folders, globs and archives hold beside pictures, or beside videos."""
    from ferkit.sources import left_out, printable_name

    for source in sources:
        if others := left_out(source, videos=videos):
            say(f"Note: {printable_name(source)} also holds {others}, left out.")


@contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield the `progress` that `load_dataset` takes."""
    from rich.progress import TaskProgressColumn, TimeRemainingColumn

    bar = progress_bar(TaskProgressColumn(), TimeRemainingColumn())
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
