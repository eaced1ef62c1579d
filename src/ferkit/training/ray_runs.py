"""Training runs side by side on a Ray cluster: one per GPU, tried again where a worker or its machine dies.

Workers train and keep their runs in the run folders, which all machines of the cluster must see; the driver is told of
every epoch and answers whether to go on. A run whose worker died goes on from its last whole epoch on another.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ferkit._support.keras_backend import load_keras
from ferkit._support.ray_session import USUAL_STORE, ray_session
from ferkit.data import Dataset
from ferkit.errors import ClusterError, FerkitError
from ferkit.training.experiments import Experiment, Outcome, Outcomes, Row, Say, ShouldStop, Where, run_experiment

# A run that has cost so many workers is at fault itself: it wants more memory than there is, say.
ATTEMPTS = 4


def run_all(experiments: Iterator[Experiment], should_stop: ShouldStop, *, where: Where, say: Say | None) -> Outcomes:
    """Do the experiments, so many at once as `where` says, and yield each as it ends, in any order.

    Raises:
        ClusterError: no cluster, or a machine of it does not see the run folders.
        TrainingError: the disk is full.
    """
    first = list(itertools.islice(experiments, 1))
    store = USUAL_STORE + 2 * sum(faces.images.nbytes for one in first for faces in one.dataset.splits.values())
    with ray_session(where.address, workers=where.workers, store=store) as ray:
        places = Places.of([node["Resources"] for node in ray.nodes() if node["Alive"]], where.workers)
        if say:
            say(f"Ray: {places}.")
        pool = _Pool(ray, places, should_stop, say or (lambda text: None))
        yield from pool.outcomes(itertools.chain(first, experiments))


@dataclass(frozen=True)
class Places:
    """How many runs a cluster does at once, and what each of them gets."""

    count: int
    cores: int
    gpus: int

    @classmethod
    def of(cls, machines: Sequence[dict[str, float]], wanted: int | None) -> "Places":
        """Share out the machines, given as Ray counts them: {"CPU": 16.0, "GPU": 4.0, ...}.

        One run per GPU and no more; without any, one per machine, or as many as are wanted. Each gets as many cores as
        leave room for all of them.

        >>> print(Places.of([{"CPU": 16.0, "GPU": 4.0}] * 2, wanted=None))
        8 at once, 1 GPU and 4 cores each
        >>> print(Places.of([{"CPU": 3.0}] * 2, wanted=4))
        4 at once, 1 core each
        """
        gpus = sum(int(one.get("GPU", 0)) for one in machines)
        count = wanted or gpus or len(machines)
        if gpus:
            count = min(count, gpus)

        def room(cores: int) -> int:
            places = [(int(one.get("CPU", 0)) // cores, int(one.get("GPU", 0)) if gpus else count) for one in machines]
            return sum(map(min, places))

        most = max((int(one.get("CPU", 0)) for one in machines), default=0)
        cores = next((cores for cores in range(most, 0, -1) if room(cores) >= count), 1)
        return cls(count, cores, int(gpus > 0))

    def __str__(self) -> str:
        gpu = "1 GPU and " if self.gpus else ""
        return f"{self.count} at once, {gpu}{self.cores} core{'s' * (self.cores > 1)} each"


@dataclass
class _Running:
    experiment: Experiment
    attempt: int = 1


@dataclass
class _Pool:
    """The runs under way. Everything is decided here, in the driver, one event after the other."""

    ray: ModuleType
    places: Places
    should_stop: ShouldStop
    say: Say
    running: dict[Any, _Running] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    # The data set that was sent last, and where it is: mostly all runs share one.
    sent: tuple[Dataset | None, Any] = (None, None)

    def __post_init__(self) -> None:
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=False
        )
        self.reports = self.ray.remote(num_cpus=0)(_Reports).options(scheduling_strategy=here).remote()
        # No retries of Ray's own: a run that is tried again is worth a word, and must end some day.
        self.train = self.ray.remote(
            num_cpus=self.places.cores, num_gpus=self.places.gpus, max_retries=0, max_calls=self.places.gpus
        )(_train)
        own = {name: value for name, value in os.environ.items() if name.startswith("FERKIT_")}
        own["KERAS_BACKEND"] = load_keras().backend.backend()
        self.worker = _Worker(own, Path.cwd(), self.places.cores)

    def outcomes(self, experiments: Iterator[Experiment]) -> Outcomes:
        news = self.reports.next.remote()
        try:
            while True:
                while len(self.running) < self.places.count and (one := next(experiments, None)) is not None:
                    self._start(_Running(one))
                if not self.running:
                    return
                (ready,), _ = self.ray.wait([news, *self.running])
                if ready is news:
                    self._answer(*self.ray.get(news))
                    news = self.reports.next.remote()
                elif (outcome := self._ended(ready)) is not None:
                    yield outcome
        finally:
            # On a cluster that stays, nothing of ours does.
            for run in self.running:
                self.ray.cancel(run, force=True)
            self.ray.kill(self.reports)

    def _start(self, one: _Running) -> None:
        experiment = one.experiment
        if experiment.dataset is not self.sent[0]:
            self.sent = experiment.dataset, self.ray.put(experiment.dataset)
        # The faces travel by themselves, once for all runs.
        bare = replace(experiment, folder=experiment.folder.resolve(), dataset=replace(experiment.dataset, splits={}))
        self.running[self.train.remote(self.sent[1], bare, self.reports, self.worker, run_experiment)] = one

    def _answer(self, number: int, row: Row) -> None:
        known = (one.experiment for one in self.running.values())
        experiment = next((one for one in known if one.number == number), None)
        if experiment is None:
            return  # the last word of a worker that died
        self.say(
            f"{experiment.name}, epoch {row['epoch']:.0f}: loss {row.get('loss', 0):.4f}  val_accuracy {row['val_accuracy']:.4f}"
        )
        if done := self.should_stop(experiment, row):
            self.stopped.add(number)
        self.reports.answer.remote(number, done)

    def _ended(self, run: Any) -> Outcome | None:
        """The outcome; None if the run was started again."""
        one = self.running.pop(run)
        try:
            return Outcome(one.experiment, self.ray.get(run))
        except self.ray.exceptions.RayTaskError as problem:
            if isinstance(problem.cause, FerkitError):
                raise problem.cause from problem
            raise
        except self.ray.exceptions.RayError as problem:
            if one.experiment.number in self.stopped:
                return Outcome(one.experiment)
            if one.attempt >= ATTEMPTS:
                return Outcome(one.experiment, f"It lost {ATTEMPTS} workers, the last one so: {_first_line(problem)}")
            self.say(
                f"{one.experiment.name} lost its worker and resumes from its last complete epoch ({_first_line(problem)})"
            )
            self._start(_Running(one.experiment, one.attempt + 1))
            return None


class _Reports:
    """An actor beside the driver, where workers tell of their epochs and wait for an answer."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[int, dict[str, float]]] = asyncio.Queue()
        self.waiting: dict[int, asyncio.Future[bool]] = {}

    async def tell(self, number: int, row: dict[str, float]) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting[number] = answer
        await self.told.put((number, row))
        return await answer

    async def next(self) -> tuple[int, dict[str, float]]:
        return await self.told.get()

    async def answer(self, number: int, stop: bool) -> None:
        answer = self.waiting.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(stop)


@dataclass(frozen=True)
class _Worker:
    """What a worker shares with the driver: Keras' backend and our settings, and the folder that paths start from."""

    environment: dict[str, str]
    folder: Path
    cores: int

    def set_up(self) -> None:
        os.environ.update(self.environment)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # TensorFlow would take all cores of the machine for every run.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(self.cores))
        with suppress(OSError):  # not there on this machine: then absolute paths must do
            os.chdir(self.folder)


def _train(
    dataset: Dataset, experiment: Experiment, reports: Any, worker: _Worker, work: Callable[..., str | None]
) -> str | None:
    """What a worker does: one run. Returns why it failed, as `run_experiment` does, which is the `work`."""
    import ray

    worker.set_up()
    folder = experiment.folder.parent
    if not folder.is_dir():
        raise ClusterError(f"{socket.gethostname()} does not see {folder}. Choose an --out that all machines share.")

    def should_stop(row: Row) -> bool:
        return bool(ray.get(reports.tell.remote(experiment.number, dict(row))))

    return work(replace(experiment, dataset=dataset), should_stop, quiet=True)


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
