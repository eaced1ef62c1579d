"""One recipe with several seeds: how good it is, and how much of that is luck.

A sweep lives in one folder: `seed-42/` and so on are ordinary runs, `seeds.json` is what came out. Killed at any moment
it goes on where it was, each run from its last whole epoch.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferkit import metrics, model_folder, run_folder
from ferkit.datasets.records import Dataset
from ferkit.errors import TrainingError, UsageError
from ferkit.recipes import RECIPES, TrainConfig
from ferkit.runs import HERE, Job, Row, Where

SEEDS_FILE = "seeds.json"
# Figures of a run's card that are compared, and the most that each can be.
FIGURES = {"accuracy": 1.0, "macro_f1": 1.0, "nll": math.inf, "ece": 1.0}


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
class Sweep:
    """What came out. runs: in the order of the seeds. split, n: the faces that figures were measured on."""

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

    def to_dict(self) -> dict[str, Any]:
        """What `seeds.json` holds."""
        spreads = {name: asdict(one) for name, one in self.spreads.items()} if self.done else {}
        document = {"split": self.split, "n": self.n, "runs": [asdict(run) for run in self.runs], **spreads}
        # As JSON gives it back: lists for tuples.
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise `UsageError` for no seed, one below 0, or one that stands there twice."""
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        given = ",".join(map(str, seeds))
        raise UsageError(f"seeds are different whole numbers from 0, as in 42,43,44. Received: {given or 'none'}.")


def check_folder(out: Path, seeds: Sequence[int], *, resume: bool) -> None:
    """Raise `TrainingError` if runs are there and shall not go on, or shall go on and are not there."""
    begun = [folder for folder in (_folder(out, seed) for seed in seeds) if (folder / run_folder.CONFIG_FILE).exists()]
    if begun and not resume:
        raise TrainingError(f"{begun[0]} holds a run already. Go on with --resume, or choose another --out.")
    if resume and not begun:
        raise TrainingError(f"{out} holds no run of these seeds: nothing to resume. Start it without --resume.")


def train_seeds(
    dataset: Dataset,
    recipe: str | TrainConfig,
    seeds: Sequence[int],
    *,
    out: Path,
    resume: bool = False,
    where: Where = HERE,
    say: Callable[[str], object] | None = None,
    **changes: Any,
) -> Sweep:
    """Train a recipe once with each seed, into `out/seed-N`; a run that fails costs the others nothing.

    Args:
        dataset: faces with a training and a validation split.
        recipe: name of a recipe, or a `TrainConfig`.
        seeds: different whole numbers from 0. To resume, there may be more of them than before.
        out: the folder of all runs.
        resume: go on with those that are there, and begin the rest.
        where: on which engine, and how many at once.
        say: told what happens; None trains without a word.
        **changes: as `ferkit.train` takes them.

    Raises:
        UsageError: seeds, choices or values that make no sense.
        TrainingError: the folder is taken or unwritable, holds other runs, or no run could be finished.
        ClusterError, MissingDependencyError: of Ray.
    """
    check_seeds(seeds)
    where.check()
    check_folder(out, seeds, resume=resume)
    base = recipe if isinstance(recipe, TrainConfig) else RECIPES[recipe].config
    base.changed(**{name: value for name, value in changes.items() if name != "devices"})
    for seed in seeds:
        if (_folder(out, seed) / run_folder.CONFIG_FILE).exists():
            wanted = {**changes, "seed": seed}
            wanted.pop("devices", None)
            run_folder.stored_config(_folder(out, seed), dataset, wanted)
    _make(out)

    def jobs() -> Iterator[Job]:
        for seed in seeds:
            if say and where.engine == "local":
                say(f"Seed {seed}:")
            yield Job(seed, f"Seed {seed}", _folder(out, seed), recipe, {**changes, "seed": seed})

    failed: dict[int, str] = {}
    with closing(where.runs(dataset, jobs(), _never_enough, say=say)) as outcomes:
        for outcome in outcomes:
            if outcome.why is not None:
                failed[outcome.job.number] = outcome.why
                if say:
                    say(f"{outcome.job.name} failed: {outcome.why}")
    sweep = Sweep(out, tuple(_run(out, seed, failed) for seed in seeds), dataset.val.name, len(dataset.val))
    run_folder.write_json(out / SEEDS_FILE, sweep.to_dict())
    if not sweep.done:
        raise TrainingError(f"None of {len(seeds)} seeds could be trained; the last: {sweep.runs[-1].why}")
    return sweep


def _folder(out: Path, seed: int) -> Path:
    return out / f"seed-{seed}"


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise TrainingError(f"Cannot write {out}: {problem.strerror or problem}. Choose another --out.") from problem


def _never_enough(job: Job, row: Row) -> bool:
    return False


def _run(out: Path, seed: int, failed: dict[int, str]) -> SeedRun:
    folder = _folder(out, seed)
    if seed in failed:
        return SeedRun(seed, folder.name, None, failed[seed])
    scores = model_folder.read_card(folder)["metrics"]
    return SeedRun(seed, folder.name, {name: scores[name] for name in FIGURES})
