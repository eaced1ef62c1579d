"""Work on all cores of this machine, in order and with bounded memory."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


_most_cores: int | None = None


def limit_cores(most: int) -> None:
    """Let this process take no more cores than so many: for one of several that share a machine."""
    global _most_cores
    _most_cores = most


def usable_cores() -> int:
    """How many cores this process may use: what `taskset` or a container left it, not what the machine has."""
    # What the process may use is not to be asked on macOS and Windows.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if _most_cores is None else min(cores, _most_cores)


def onnx_options(threads: int | None = None) -> Any:
    """How every network runs in ONNX Runtime. threads: None takes all usable cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well, and reported in one line
    # With its default number, ONNX Runtime also pins threads to cores, ignoring `taskset`.
    options.intra_op_num_threads = threads or usable_cores()
    # Threads that wait for the next operation sleep instead of spinning. Beside decoding, detection or a neighbour on
    # the machine, spinning made two threads slower than one (benchmarks/SPEED.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Like `map`, on several threads: results come in the order of the items, and one that fails raises there.

    No more than twice as many items as threads are taken ahead of the result that is due, so an endless supply is no
    trouble; a result that is there does not wait for that. (`Executor.map` takes all items at once before Python 3.14.)
    One thread means this one.
    """
    if threads == 1:
        yield from map(work, items)
        return
    supply = iter(items)
    due: deque[Future[Result]] = deque()
    failure: Exception | None = None
    pool = ThreadPoolExecutor(threads, "ferkit")
    try:
        while failure is None:
            try:
                due.append(pool.submit(work, next(supply)))
            except StopIteration:
                break
            except Exception as problem:  # the supply's own: what it gave before still comes
                failure = problem
            while due and (len(due) >= 2 * threads or due[0].done()):
                yield due.popleft().result()
        while due:
            yield due.popleft().result()
        if failure is not None:
            raise failure
    finally:
        # Also where the caller stops half-way: what has not begun never begins, and what waits for a server far away
        # is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)


_GUARD = threading.Lock()
_LOCKS: dict[int, tuple[threading.Lock, int]] = {}


@contextmanager
def alone_with(thing: object) -> Iterator[None]:
    """Keep other threads from the same object meanwhile, though not from others: a file or picture of the caller's."""
    with _GUARD:
        lock, users = _LOCKS.get(id(thing), (threading.Lock(), 0))
        _LOCKS[id(thing)] = lock, users + 1
    try:
        with lock:
            yield
    finally:
        with _GUARD:
            lock, users = _LOCKS.pop(id(thing))
            if users > 1:
                _LOCKS[id(thing)] = lock, users - 1


class Aside:
    """Does one thing after the other in a thread of its own, each within a time, for libraries that nothing interrupts.

    The caller waits in Python, where a signal reaches it. A thread that does not end is left to itself: `stuck` says so,
    and nothing that it works on may be used or closed any more.
    """

    def __init__(self) -> None:
        self.stuck = False
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()  # else Python would wait for it at its end

    def run(self, work: Callable[[], Result], seconds: float) -> Result:
        """What `work` returns or raises. Raises `TimeoutError` if it takes longer, or did so before."""
        if self.stuck:
            raise TimeoutError
        self._work.put(work)
        self.stuck = True  # also if a signal ends the wait
        try:
            answer, problem = self._answers.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None
        self.stuck = False
        if problem is not None:
            raise problem
        return cast(Result, answer)

    def close(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                self._answers.put((work(), None))
            except BaseException as problem:
                self._answers.put((None, problem))
            del work
