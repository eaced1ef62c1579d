"""Experiments: training runs as values, done one after the other here or side by side on the workers of a Ray cluster.

One recipe with several seeds, the folds of a search for label issues and the trials of a search for better values are
lists of experiments, with one rule: a run that its folder holds already goes on from its last whole epoch. Both engines
take the same experiments and leave the same folders, so what one began the other can finish.

One recipe with several seeds: how good it is, and how much of that is luck. They live in one folder: `seed-42/` and so
on are ordinary runs, `seeds.json` is what came out.
"""

import gc
import json
import math
import re
import statistics
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ferkit._support.keras_backend import load_keras
from ferkit._support.ray_session import load_ray
from ferkit._support.registry import unknown
from ferkit.data import Dataset
from ferkit.errors import TrainingError, UsageError
from ferkit.evaluation import metrics
from ferkit.models import EmotionClassifier, model_folder
from ferkit.render import DataTable, Document, Printed, Section
from ferkit.training import run_folder
from ferkit.training.config import TrainConfig
from ferkit.training.loop import train
from ferkit.training.start import Data, config_of, load_data

Row = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A training run: on which data, with which values, in which folder.

    number, name: for its list and for people, e.g. "Trial 3". recipe, changes: as `train` takes them.
    """

    dataset: Dataset
    recipe: str | TrainConfig
    folder: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    name: str = ""

    @property
    def config(self) -> TrainConfig:
        """All of its values."""
        return config_of(self.recipe, self.changes)

    @property
    def begun(self) -> bool:
        """Whether the folder holds a run, which then goes on."""
        return (self.folder / run_folder.CONFIG_FILE).is_file()

    @property
    def finished(self) -> bool:
        """Whether the folder holds the model: its card is the last that a run writes."""
        return (self.folder / model_folder.CARD_FILE).exists()

    @property
    def classifier(self) -> EmotionClassifier:
        """The network of the best epoch of the finished run."""
        return EmotionClassifier.load(self.folder)

    def check(self) -> None:
        """Raise `TrainingError` if the folder holds a run on other data or with other values."""
        if self.begun:
            run_folder.stored_config(self.folder, self.dataset, self.changes)


@dataclass(frozen=True)
class Outcome:
    """A run that ended: with its model, or stopped early, or failed.

    why: what the run could not do, in one line; None if it did it.
    """

    experiment: Experiment
    why: str | None = None


# Closing it ends what is under way.
Outcomes = Generator[Outcome, None, None]

# Called with each epoch of an experiment as it ends; True stops the run.
ShouldStop = Callable[[Experiment, Row], bool]
Say = Callable[[str], object]

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Where:
    """Where experiments are done.

    engine: local, one after the other in this process, or ray, on a cluster. workers: how many at once; None takes one
    per GPU, or where there are none one per machine. address: of a Ray cluster, see `ferkit._support.ray_session`.
    """

    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def check(self) -> None:
        """Raise `UsageError` for what makes no sense, `MissingDependencyError` where Ray is wanted and missing."""
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1. Received: {self.workers}.")
        if self.engine == "ray":
            load_ray()
        elif (self.workers or 1) > 1 or self.address:
            raise UsageError("One run at a time is done here. Use --engine ray for several, or for a cluster.")

    @property
    def alone(self) -> bool:
        """Whether runs follow each other, so that what was learnt from one is known before the next."""
        return self.engine == "local" or self.workers == 1

    def runs(self, experiments: Iterator[Experiment], should_stop: ShouldStop, *, say: Say | None) -> Outcomes:
        """Train experiments, one whenever there is room for it, and yield each as it ends.

        A full disk or a lost cluster raises: that is no fault of one run. say: told what happens; None works without a
        word.
        """
        if self.engine == "ray":
            from ferkit.training import ray_runs

            yield from ray_runs.run_all(experiments, should_stop, where=self, say=say)
            return
        for one in experiments:
            why = run_experiment(one, lambda row, one=one: should_stop(one, row), quiet=say is None)  # type: ignore[misc]
            yield Outcome(one, why)


HERE = Where()


class _StopError(Exception):
    """Ends a run from inside."""


def run_experiment(experiment: Experiment, should_stop: Callable[[Row], bool], *, quiet: bool) -> str | None:
    """Train, or go on with what is begun; why it failed, if it did, for trouble of its own. Trouble with the disk raises."""

    def on_epoch(row: Row) -> None:
        if should_stop(row):
            raise _StopError

    forget_networks()
    options: dict[str, Any] = {"out": experiment.folder, "resume": experiment.begun, "quiet": quiet}
    try:
        with suppress(_StopError):
            train(experiment.dataset, experiment.recipe, on_epoch=on_epoch, **options, **experiment.changes)
    except TrainingError as problem:
        if isinstance(problem.__cause__, OSError):
            raise
        return str(problem)
    except Exception as problem:  # each framework has a class of its own for it
        if not _out_of_memory(problem):
            raise
        first = str(problem).strip().partition("\n")[0]
        return f"Out of memory with batch_size={experiment.config.batch_size}: {first or type(problem).__name__}"
    return None


def _out_of_memory(problem: Exception) -> bool:
    """JAX says RESOURCE_EXHAUSTED in a RuntimeError of its own, TensorFlow raises ResourceExhaustedError."""
    exhausted = "RESOURCE_EXHAUSTED" in str(problem) or type(problem).__name__ == "ResourceExhaustedError"
    return exhausted or isinstance(problem, MemoryError)


def forget_networks() -> None:
    """What Keras remembers of the runs before would fill the memory."""
    load_keras().backend.clear_session()
    gc.collect()


def never_stop(experiment: Experiment, row: Row) -> bool:
    """For runs that are trained to their end."""
    return False


SEEDS_FILE = "seeds.json"
_RUN = re.compile(r"seed-(0|[1-9]\d*)")
# Figures of a run's card that are compared, and the most that each can be.
FIGURES = {"accuracy": 1.0, "macro_f1": 1.0, "nll": math.inf, "ece": 1.0}
_HEADINGS = {"accuracy": "accuracy", "macro_f1": "macro-F1", "nll": "log loss", "ece": "ECE"}


@dataclass(frozen=True)
class SeedRun:
    """The run of a seed. figures: those of `FIGURES` on the validation split; None if it failed, and `why` says it."""

    seed: int
    folder: str
    figures: dict[str, float] | None
    why: str | None = None


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds. sd: with n - 1. ci95: of the mean, cut to what can be. Both are None for one seed."""

    mean: float
    sd: float | None
    ci95: tuple[float, float] | None

    @classmethod
    def of(cls, values: Sequence[float], most: float = 1.0) -> "Spread":
        mean = statistics.fmean(values)
        if len(values) == 1:
            return cls(mean, None, None)
        low, high = metrics.mean_interval(values)
        return cls(mean, statistics.stdev(values), (max(low, 0.0), min(high, most)))


@dataclass(frozen=True)
class Sweep(Printed):
    """What came out.

    runs: of all seeds in the folder, in the order in which they were given, or by number where others were there
        before.
    split, n: the faces that figures were measured on.
    """

    folder: Path
    runs: tuple[SeedRun, ...]
    split: str
    n: int

    @property
    def done(self) -> list[SeedRun]:
        return [run for run in self.runs if run.figures]

    @property
    def spreads(self) -> dict[str, Spread]:
        """Each figure over the runs that are done."""
        found = [run.figures for run in self.runs if run.figures]
        return {name: Spread.of([figures[name] for figures in found], most) for name, most in FIGURES.items()}

    def document(self) -> Document:
        """A row per seed, then mean, spread and interval over the seeds that are done."""
        rows = [
            (str(run.seed), *(_figure(name, run.figures[name]) if run.figures else "failed" for name in FIGURES))
            for run in self.runs
        ]
        if self.done:
            spreads = self.spreads
            rows.append(("mean", *(_figure(name, spreads[name].mean) for name in FIGURES)))
            rows.append(("sd", *(_figure(name, spreads[name].sd) for name in FIGURES)))
            rows.append(("95 % interval", *(_range(name, spreads[name].ci95) for name in FIGURES)))
        columns = ("seed", *(_HEADINGS[name] for name in FIGURES))
        return Document("", "", (Section("", (DataTable(columns, tuple(rows)),)),))

    def to_dict(self) -> dict[str, Any]:
        """What `seeds.json` holds."""
        spreads = {name: asdict(one) for name, one in self.spreads.items()} if self.done else {}
        document = {"split": self.split, "n": self.n, "runs": [asdict(run) for run in self.runs], **spreads}
        # As JSON gives it back: lists for tuples.
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.3f}"


def _range(name: str, low_high: tuple[float, float] | None) -> str:
    if low_high is None:
        return "-"
    return " to ".join(_figure(name, end).removesuffix(" %") for end in low_high)


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise `UsageError` for no seed, one below 0, or one that stands there twice."""
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        given = ",".join(map(str, seeds))
        raise UsageError(f"seeds are different whole numbers from 0, as in 42,43,44. Received: {given or 'none'}.")


def train_seeds(
    data: Data,
    recipe: str | TrainConfig,
    seeds: Sequence[int],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    where: Where = HERE,
    say: Say | None = None,
    **changes: Any,
) -> Sweep:
    """Train a recipe once with each seed, into `out/seed-N`; a run that fails costs the others nothing.

    Args:
        data: Faces with a training and a validation split, or the path of such data.
        recipe: Name of a recipe, or a `TrainConfig`.
        seeds: Different whole numbers from 0. Those of earlier sweeps in `out` need not be named: the table has them
            too.
        out: The folder of all runs; None takes `runs/<recipe>-seeds`.
        resume: Go on with those seeds that are there, and begin the rest.
        where: On which engine, and how many at once.
        say: Told what happens; None trains without a word.
        **changes: Values of `TrainConfig` to change, e.g. `epochs=10`.

    Raises:
        UsageError: seeds, choices or values that make no sense.
        TrainingError: the folder is taken, unwritable or in use, holds other runs, or no run could be finished.
        ClusterError, MissingDependencyError: of Ray.
    """
    check_seeds(seeds)
    where.check()
    config_of(recipe, changes)
    folder = Path(out or Path("runs") / f"{recipe if isinstance(recipe, str) else 'custom'}-seeds")
    _check_folder(folder, seeds, resume=resume)
    dataset = load_data(data)
    experiments = [
        Experiment(dataset, recipe, folder / f"seed-{seed}", {**changes, "seed": seed}, seed, f"Seed {seed}")
        for seed in seeds
    ]
    with run_folder.alone(folder, "sweep of seeds"):
        _check_folder(folder, seeds, resume=resume)  # again: another sweep may just have ended
        _check_runs(folder, experiments)
        failed = _train(experiments, where, say)
        there = {*_seeds_in(folder), *seeds}
        order = seeds if there == set(seeds) else sorted(there)
        whys = {**_failures(folder), **failed}
        sweep = Sweep(folder, tuple(_run(folder, seed, whys) for seed in order), dataset.val.name, len(dataset.val))
        run_folder.write_json(folder / SEEDS_FILE, sweep.to_dict())
    if not sweep.done:
        raise TrainingError(f"None of {len(sweep.runs)} seeds could be trained; the last: {sweep.runs[-1].why}")
    return sweep


def _check_folder(out: Path, seeds: Sequence[int], *, resume: bool) -> None:
    """Raise `TrainingError` if runs of these seeds are there and shall not go on, or if no run is there to go on."""
    there = _seeds_in(out)
    begun = [out / f"seed-{seed}" for seed in seeds if seed in there]
    if begun and not resume:
        raise TrainingError(f"{begun[0]} holds a run already. Go on with --resume, or choose another --out.")
    if resume and not there:
        raise TrainingError(f"{out} holds no run of a seed: nothing to resume. Start it without --resume.")


def _seeds_in(out: Path) -> list[int]:
    """Seeds that have a run in a folder, finished or not."""
    found = (_RUN.fullmatch(path.parent.name) for path in out.glob(f"seed-*/{run_folder.CONFIG_FILE}"))
    return sorted(int(match[1]) for match in found if match)


def _check_runs(out: Path, experiments: Sequence[Experiment]) -> None:
    """Raise `TrainingError` for runs on other data or with other values: a table compares seeds and nothing else."""
    there = {seed: out / f"seed-{seed}" for seed in _seeds_in(out)}
    if {one.number for one in experiments} <= set(there):
        for one in experiments:
            one.check()
        return
    dataset, config = experiments[0].dataset, experiments[0].config
    for seed, folder in there.items():
        stored, _ = run_folder.stored_config(folder, dataset, {})
        # Where weights are taken over, the model may be that of the weights.
        wanted = config.changed(seed=seed, model=stored.model if config.init else config.model).to_dict()
        differing = [name for name, value in stored.to_dict().items() if wanted[name] != value]
        if differing:
            raise TrainingError(
                f"{folder} was started with other values of {', '.join(differing)}. Give new seeds the same, or another --out."
            )


def _train(experiments: Sequence[Experiment], where: Where, say: Say | None) -> dict[int, str]:
    """Do the runs; return why those failed that did, by their seeds."""

    def told() -> Iterator[Experiment]:
        for one in experiments:
            if say and where.engine == "local":
                say(f"{one.name}:")
            yield one

    failed: dict[int, str] = {}
    with closing(where.runs(told(), never_stop, say=say)) as outcomes:
        for outcome in outcomes:
            if outcome.why is not None:
                failed[outcome.experiment.number] = outcome.why
                if say:
                    say(f"{outcome.experiment.name} failed: {outcome.why}")
    return failed


def _failures(out: Path) -> dict[int, str]:
    """Why seeds failed, as an earlier table says."""
    try:
        rows = json.loads((out / SEEDS_FILE).read_text(encoding="utf-8"))["runs"]
        return {int(row["seed"]): str(row["why"]) for row in rows if row["why"] is not None}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # no table yet, or none that can be read: it is written anew


def _run(out: Path, seed: int, whys: dict[int, str]) -> SeedRun:
    folder = out / f"seed-{seed}"
    if not (folder / model_folder.CARD_FILE).exists():  # the last that a run writes
        return SeedRun(seed, folder.name, None, whys.get(seed, "It is not finished. Go on with --resume."))
    scores = model_folder.read_card(folder)["metrics"]
    return SeedRun(seed, folder.name, {name: scores[name] for name in FIGURES})
