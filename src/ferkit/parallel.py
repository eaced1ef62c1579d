"""Work on all cores of this machine, in order and with bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """How many cores this process may use: what `taskset` or a container left it, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Like `map`, on several threads: results come in the order of the items, and one that fails raises there.

    No more than twice as many items as threads are taken ahead of the result that is due, so an endless supply is no
    trouble. (`Executor.map` takes all of them at once before Python 3.14.) One thread means this one.
    """
    if threads == 1:
        yield from map(work, items)
        return
    supply = iter(items)
    due: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, "ferkit")
    try:
        for item in supply:
            due.append(pool.submit(work, item))
            if len(due) >= 2 * threads:
                yield due.popleft().result()
        while due:
            yield due.popleft().result()
    finally:
        # Also where the caller stops half-way: what has not begun never begins.
        pool.shutdown(cancel_futures=True)
