"""Several training runs: one after the other here, or side by side on the workers of a Ray cluster.

Whoever wants runs hands over jobs, one whenever there is room for it, and is asked after each epoch whether it is
enough. Both engines take the same jobs and leave the same folders, so what one began the other can finish.
"""

import gc
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ferkit.datasets.records import Dataset
from ferkit.errors import TrainingError, UsageError
from ferkit.keras_backend import load_keras
from ferkit.ray_session import load_ray
from ferkit.recipes import RECIPES, TrainConfig
from ferkit.registry import Registry
from ferkit.training import train
from ferkit.training.run_folder import CONFIG_FILE

Row = Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A run to do; one that its folder holds already goes on from its last whole epoch.

    name: for people, e.g. "Trial 3". recipe, changes: as `train` takes them.
    """

    number: int
    name: str
    folder: Path
    recipe: str | TrainConfig
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A run that ended: with its model, or because it was told that it is enough, or for a reason.

    why: what the run could not do, in one line; None if it did it.
    """

    job: Job
    why: str | None = None


# Closing it ends what is under way.
Outcomes = Generator[Outcome, None, None]

# Told of a job's epoch as it ends; True ends the run there.
Enough = Callable[[Job, Row], bool]


class Engine(Protocol):
    """Does jobs and yields each as it ends. A full disk or a lost cluster raises: that is no fault of one run.

    say: told what happens; None works without a word.
    """

    def __call__(
        self,
        dataset: Dataset,
        jobs: Iterator[Job],
        enough: Enough,
        *,
        where: "Where",
        say: Callable[[str], object] | None,
    ) -> Outcomes: ...


RUN_ENGINES: Registry[Engine] = Registry("engine")


@dataclass(frozen=True)
class Where:
    """Where runs are done.

    engine: one of `RUN_ENGINES`. workers: how many at once; None takes one per GPU, or where there are none one per
    machine. address: of a Ray cluster, see `ferkit.ray_session`.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def check(self) -> None:
        """Raise `UsageError` for what makes no sense, `MissingDependencyError` where Ray is wanted and missing."""
        RUN_ENGINES[self.engine]
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1. Received: {self.workers}.")
        if self.engine == "local":
            if (self.workers or 1) > 1 or self.address:
                raise UsageError("One run at a time is done here. Take --engine ray for several, or for a cluster.")
        else:
            load_ray()

    @property
    def alone(self) -> bool:
        """Whether runs follow each other, so that what was learnt from one is known before the next."""
        return self.engine == "local" or self.workers == 1

    def runs(
        self, dataset: Dataset, jobs: Iterator[Job], enough: Enough, *, say: Callable[[str], object] | None
    ) -> Outcomes:
        return RUN_ENGINES[self.engine](dataset, jobs, enough, where=self, say=say)


HERE = Where()


class _EnoughError(Exception):
    """Ends a run from inside."""


def do(dataset: Dataset, job: Job, enough: Callable[[Row], bool], *, quiet: bool) -> str | None:
    """Do a run, or the rest of it; why it failed, if it did, for trouble of its own. Trouble with the disk raises."""

    def on_epoch(row: Row) -> None:
        if enough(row):
            raise _EnoughError

    forget_networks()
    begun = (job.folder / CONFIG_FILE).is_file()
    try:
        with suppress(_EnoughError):
            train(dataset, job.recipe, out=job.folder, resume=begun, quiet=quiet, on_epoch=on_epoch, **job.changes)
    except TrainingError as problem:
        if isinstance(problem.__cause__, OSError):
            raise
        return str(problem)
    except Exception as problem:  # each framework has a class of its own for it
        if not _out_of_memory(problem):
            raise
        first = str(problem).strip().partition("\n")[0]
        return f"Out of memory with batch_size={_batch_size(job)}: {first or type(problem).__name__}"
    return None


def _out_of_memory(problem: Exception) -> bool:
    """JAX says RESOURCE_EXHAUSTED in a RuntimeError of its own, TensorFlow raises ResourceExhaustedError."""
    exhausted = "RESOURCE_EXHAUSTED" in str(problem) or type(problem).__name__ == "ResourceExhaustedError"
    return exhausted or isinstance(problem, MemoryError)


def _batch_size(job: Job) -> int:
    base = RECIPES[job.recipe].config if isinstance(job.recipe, str) else job.recipe
    return base.changed(**job.changes).batch_size


def forget_networks() -> None:
    """What Keras remembers of the runs before would fill the memory."""
    load_keras().backend.clear_session()
    gc.collect()


@RUN_ENGINES.register("local")
def _local(
    dataset: Dataset, jobs: Iterator[Job], enough: Enough, *, where: Where, say: Callable[[str], object] | None
) -> Outcomes:
    """One run after the other, in this process."""
    for job in jobs:
        why = do(dataset, job, lambda row, job=job: enough(job, row), quiet=say is None)  # type: ignore[misc]
        yield Outcome(job, why)


@RUN_ENGINES.register("ray")
def _ray(
    dataset: Dataset, jobs: Iterator[Job], enough: Enough, *, where: Where, say: Callable[[str], object] | None
) -> Outcomes:
    """Several at once, on the workers of a Ray cluster."""
    from ferkit import ray_runs

    return ray_runs.run_all(dataset, jobs, enough, where=where, say=say)
