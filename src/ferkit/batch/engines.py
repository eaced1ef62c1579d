"""What runs the parts of a job: this machine's cores, or a cluster.

On one machine a process for each core does parts, and is replaced when it dies. Processes are started anew, not forked,
as ONNX Runtime's threads ask for, and not through `multiprocessing` or `concurrent.futures`: these run the user's
script again in each process, and end all processes when one dies.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Protocol

from ferkit._support.parallel import usable_cores
from ferkit._support.ray_session import load_ray
from ferkit._support.registry import Registry
from ferkit.batch.job import Job
from ferkit.batch.worker import PartSummary, PartWorker
from ferkit.errors import FerkitError, UsageError


class Engine(Protocol):
    """Runs the parts with so many workers (None: one per core that the engine has) and yields what became of each, in whatever order they are done.

    Each worker makes one `ferkit.batch.worker.PartWorker(job)` and calls it with parts. A worker that dies is replaced,
    and its part is begun again by another. What a worker raises ends the job and is raised here. When the iterator is
    closed, by an error or by Ctrl-C, the workers end.

    address: of a cluster that is there already; None: this machine.
    """

    def __call__(
        self, job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None
    ) -> Iterator[PartSummary]: ...


def check_engine(engine: str, address: str | None) -> None:
    """Say what cannot be before hours of listing, and not after.

    Raises:
        UsageError: an address for an engine that knows none. MissingDependencyError: no Ray.
    """
    if engine == "local" and address is not None:
        raise UsageError("The local engine has no address. For a cluster use --engine ray.")
    if engine == "ray":
        load_ray()


def local(job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None) -> Iterator[PartSummary]:
    """This machine's cores, a process for each."""
    return run_parts(job, parts, workers or usable_cores())


def ray(job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None) -> Iterator[PartSummary]:
    """Ray Data: an actor for each core, on this machine or on a cluster."""
    from ferkit.batch.ray_engine import run_parts

    return run_parts(job, parts, workers, address=address)


ENGINES: Registry[Engine] = Registry.of("engine", {"local": local, "ray": ray})


# Workers that died before they could begin, in a row: then it is no accident.
_MOST_FAILED_STARTS = 3
_PATIENCE_S = 10.0
_MAIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from ferkit.batch.engines import work_for_driver; work_for_driver()"
)

READY = "ready"
# What a worker says: READY once, then a summary per part; an exception; or None, which its end says for it.
Answer = Any


def run_parts(job: Job, parts: Sequence[int], workers: int) -> Iterator[PartSummary]:
    """See `ferkit.batch.engines.Engine`."""
    return _run(_packed(job), deque(parts), workers)


def _run(job: bytes, waiting: deque[int], workers: int) -> Iterator[PartSummary]:
    answers: queue.SimpleQueue[tuple[_Worker, Answer]] = queue.SimpleQueue()
    left, failed_starts = len(waiting), 0
    alive: set[_Worker] = set()
    try:
        while left:
            while len(alive) < min(workers, left):
                alive.add(_Worker(job, answers))
            worker, answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                alive.discard(worker)
                failed_starts = 0 if worker.ready else failed_starts + 1
                if failed_starts == _MOST_FAILED_STARTS:
                    raise FerkitError(f"Workers exit during start-up ({worker.end()}). Is there enough memory?")
                if worker.part is not None:
                    waiting.appendleft(worker.part)
            else:
                worker.ready, worker.part = True, None
            for idle in [one for one in alive if one.ready and one.part is None]:
                if waiting:
                    idle.begin(waiting.popleft())
            if isinstance(answer, PartSummary):
                left -= 1
                yield answer
    finally:
        for one in alive:
            one.process.terminate()  # in good order: what they began is not held against any picture
        for one in alive:
            one.end()


class _Worker:
    """A process that does parts. ready: whether its model is loaded. part: what it is at."""

    def __init__(self, job: bytes, answers: "queue.SimpleQueue[tuple[_Worker, Answer]]") -> None:
        self.ready = False
        self.part: int | None = None
        # What native libraries have to say about single pictures is nobody's concern: their rows say it.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _MAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._answers = answers
        self._send(pickle.dumps(sys.path) + job)
        threading.Thread(target=self._listen, name="ferkit-batch", daemon=True).start()

    def begin(self, part: int) -> None:
        self.part = part
        self._send(pickle.dumps(part))

    def end(self) -> str:
        """Wait for its end, enforce it after a while, and tell how it ended."""
        try:
            code = self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _send(self, message: bytes) -> None:
        # Of one that is dead its listener hears.
        with suppress(OSError):
            if self.process.stdin:
                self.process.stdin.write(message)
                self.process.stdin.flush()

    def _listen(self) -> None:
        answer: Answer = READY
        while answer is not None:
            try:
                answer = pickle.load(self.process.stdout)  # type: ignore[arg-type] # noqa: S301 - our own process
            except Exception:  # the pipe ended, perhaps in the middle of a word
                answer = None
            self._answers.put((self, answer))


def _packed(job: Job) -> bytes:
    """The job for its workers, which can load what they can import."""
    chosen = [job.settings.model, job.settings.detector]
    home = [getattr(one, "__module__", "") if callable(one) else type(one).__module__ for one in chosen]
    if "__main__" in home:
        raise UsageError(
            "A detector or classifier of your own must lie in a module that the workers can import, "
            "not in the script or notebook itself."
        )
    try:
        return pickle.dumps(job)
    except Exception as problem:  # pickle raises whatever the object does
        raise UsageError(f"A custom detector or classifier must be picklable ({problem}).") from problem


def work_for_driver() -> None:
    """Be a worker process: parts come in on standard input, what became of them goes out on standard output.

    Does parts until none comes, and ends at once when the driver does, also when that is killed.
    """
    # Ctrl-C is for the driver, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # The answers' own way out: on the usual one anything that prints would break in.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    code = 1
    try:
        _do_parts(sys.stdin.buffer, answers)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException as problem:
        _answer(answers, _sendable(problem))
    finally:
        # Not sys.exit: the thread that listens would be waited for, or torn from its reading with a complaint.
        os._exit(code)


def _do_parts(orders: BinaryIO, answers: BinaryIO) -> None:
    job = pickle.load(orders)  # noqa: S301 - from the driver that started this process
    parts: queue.SimpleQueue[int] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                parts.put(pickle.load(orders))  # noqa: S301
        except BaseException:  # the driver is gone, and whoever goes on with the job must not meet this process
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    worker = PartWorker(job)
    _answer(answers, READY)
    while True:
        _answer(answers, worker(parts.get()))


def _answer(answers: BinaryIO, answer: Answer) -> None:
    answers.write(pickle.dumps(answer))
    answers.flush()


def _sendable(problem: BaseException) -> BaseException:
    """An exception that survives the way, with the traceback of here."""
    if not isinstance(problem, FerkitError):
        problem.add_note("In a worker:\n" + "".join(traceback.format_exception(problem)))
    try:
        pickle.loads(pickle.dumps(problem))  # noqa: S301
    except Exception:
        return FerkitError(f"A worker failed: {type(problem).__name__}: {problem}")
    return problem
