"""The engine of a cluster: Ray Data with an actor per worker, on this machine or on a Ray cluster that is there.

The data set is the numbers of the parts. Ray Data hands them to its actors, brings back what became of each as it ends,
and begins again elsewhere what an actor or its machine had when it died; parts that are done by then are not done
twice.
"""

import logging
import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from ferkit._support.ray_session import ray_session
from ferkit.batch.job import JOB_FILE, Job
from ferkit.batch.worker import PartSummary, PartWorker, begun_parts, clear_blame
from ferkit.errors import ClusterError, FerkitError, UsageError

# Each block costs the driver some milliseconds before the first can begin, so of many parts several share one.
_BLOCKS = 2000
# In front of an actor: the one that it does, and the one that is there when it has done it.
_IN_FLIGHT = 2


def run_parts(
    job: Job, parts: Sequence[int], workers: int | None, *, address: str | None = None
) -> Iterator[PartSummary]:
    """See `ferkit.batch.engines.Engine`. No number of workers takes one per core of the cluster.

    Raises:
        ClusterError: the cluster cannot be reached, or a machine of it does not see the folder of the job.
        UsageError: a detector or classifier of one's own that does not pickle.
    """
    if not parts:
        return
    left = set(parts)
    try:
        with ray_session(address, workers=workers) as ray, _quiet_data() as data:
            size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            numbers = data.range(len(parts), override_num_blocks=min(len(parts), _BLOCKS))
            pool = data.ActorPoolStrategy(size=min(size, len(parts)), max_tasks_in_flight_per_actor=_IN_FLIGHT)
            own = {name: value for name, value in os.environ.items() if name.startswith("FERKIT_")}
            arguments = (job, parts, own, Path.cwd())
            done = numbers.map(_Actor, fn_constructor_args=arguments, compute=pool, num_cpus=1)
            for answer in _answers(done):
                if isinstance(answer, FerkitError):
                    raise answer
                left.discard(answer.part)
                yield answer
    finally:
        # Actors that end with the job end at once, and what they were at is not to blame.
        storage = job.storage()
        for part in left & begun_parts(storage) if left else ():
            clear_blame(storage, part)


class _Actor:
    """A worker, called with a row per part; the first one loads its model.

    Errors of ours are answers as well: of what is raised, Ray brings back the text alone.

    environment, folder: of the driver. A cluster that is there already knows neither our settings nor where their paths
    start from.
    """

    def __init__(self, job: Job, parts: Sequence[int], environment: Mapping[str, str], folder: Path) -> None:
        self.job, self.parts = job, parts
        os.environ.update(environment)
        with suppress(OSError):  # not there on this machine: then absolute paths must do
            os.chdir(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        try:
            return {"answer": pickle.dumps(self._work(self.parts[int(row["id"])]))}
        except FerkitError as problem:
            return {"answer": pickle.dumps(problem)}

    @cached_property
    def _work(self) -> PartWorker:
        if self.job.storage().read(JOB_FILE) is None:
            raise ClusterError(
                f"{socket.gethostname()} does not see {self.job.out}. Choose an OUT that all machines share, or a URL."
            )
        return PartWorker(self.job)


def _answers(done: Any) -> Iterator[PartSummary | FerkitError]:
    try:
        for row in done.iter_rows():
            yield pickle.loads(row["answer"])  # noqa: S301 - of our own actors
    except (TypeError, AttributeError, pickle.PicklingError) as problem:
        if "pickle" not in str(problem) and "serialize" not in str(problem):
            raise
        first = str(problem).strip().splitlines()[0]
        raise UsageError(f"A custom detector or classifier must be picklable ({first}).") from problem


@contextmanager
def _quiet_data() -> Iterator[ModuleType]:
    """Ray Data without its bars and logs, and with rows that come as soon as they are there."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # A block of results ends after its first row. Otherwise it would wait for those of all parts of the block before.
    ours = {"enable_progress_bars": False, "print_on_execution_start": False, "target_max_block_size": 1}
    before = {name: getattr(context, name) for name in ours}
    log = logging.getLogger("ray.data")
    level = log.level
    for name, value in ours.items():
        setattr(context, name, value)
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield ray.data
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        log.setLevel(level)
