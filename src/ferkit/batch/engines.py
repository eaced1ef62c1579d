"""What runs the parts of a job: this machine's cores, or a cluster."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ferkit.batch.job import Job
from ferkit.batch.work import PartSummary
from ferkit.errors import UsageError
from ferkit.parallel import usable_cores
from ferkit.ray_session import load_ray
from ferkit.registry import Registry


class Engine(Protocol):
    """Runs the parts with so many workers (None: one per core that the engine has) and yields what became of each, in whatever order they are done.

    Each worker makes one `ferkit.batch.work.PartWorker(job)` and calls it with parts. A worker that dies is replaced, and
    its part is begun again by another. What a worker raises ends the job and is raised here. When the iterator is closed,
    by an error or by Ctrl-C, the workers end.

    address: of a cluster that is there already; None: this machine.
    """

    def __call__(
        self, job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None
    ) -> Iterator[PartSummary]: ...


ENGINES: Registry[Engine] = Registry("engine")


def check_engine(engine: str, address: str | None) -> None:
    """Say what cannot be before hours of listing, and not after.

    Raises:
        UsageError: an address for an engine that knows none. MissingDependencyError: no Ray.
    """
    if engine == "local" and address is not None:
        raise UsageError("The local engine takes no address. For a cluster take --engine ray.")
    if engine == "ray":
        load_ray()


@ENGINES.register("local")
def local(job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None) -> Iterator[PartSummary]:
    """This machine's cores, a process for each."""
    from ferkit.batch.local_engine import run_parts

    return run_parts(job, parts, workers or usable_cores())


@ENGINES.register("ray")
def ray(job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None) -> Iterator[PartSummary]:
    """Ray Data: an actor for each core, on this machine or on a cluster."""
    from ferkit.batch.ray_engine import run_parts

    return run_parts(job, parts, workers, address=address)
