"""Threads that do the work, so that the event loop never waits; and a queue with an end."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from ferkit.parallel import usable_cores
from ferkit.web.problems import Refusal

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """As many threads as cores, twice: frames of live streams do not wait behind a queue of pictures.

    queue: requests that may wait while all threads for pictures are busy.
    """

    def __init__(self, queue: int) -> None:
        threads = usable_cores()
        self.places = threads + queue
        self.taken = 0
        self._pictures = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-pictures")
        self._frames = ThreadPoolExecutor(threads, thread_name_prefix="ferkit-frames")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, held until the answer is there. Raises `Refusal` 503 where none is left."""
        if self.taken >= self.places:
            message = f"All workers are busy and {self.places} requests are at work or waiting. Try again in 1 s."
            raise Refusal(503, "busy", message, headers={"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def on_pictures(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._pictures, lambda: work(*args, **kwargs))

    async def on_frame(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(self._frames, lambda: work(*args, **kwargs))

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        def shielded() -> T:
            try:
                return work()
            except StopIteration as problem:  # would leave who awaits it waiting for ever
                raise RuntimeError("Work ended in StopIteration.") from problem

        return await asyncio.get_running_loop().run_in_executor(pool, shielded)

    def close(self) -> None:
        """End the threads; what they are at is waited for, what waits is dropped."""
        for pool in (self._pictures, self._frames):
            pool.shutdown(wait=True, cancel_futures=True)
