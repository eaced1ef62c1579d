"""What `ferkit tune` can search: each value of a `TrainConfig` with its range. The ranges are data, in one place.

A search over the values of a recipe on paper: its plan, its trials, where it stands. `ferkit.training` does it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferkit._support.registry import Registry
from ferkit.errors import TrainingError, UsageError
from ferkit.evaluation import metrics
from ferkit.training.config import OPTIMIZERS, RECIPES, TrainConfig, as_options, changes_of
from ferkit.training.start import architecture_of


@dataclass(frozen=True)
class Between:
    """A number from low to high; `log`: each power of ten counts the same."""

    low: float
    high: float
    log: bool = False

    def ask(self, trial: Any, name: str) -> float:
        # Three digits: what is printed is exactly what was tried.
        return float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.3g}")

    def nearest(self, value: Any) -> float:
        return min(max(float(value), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", by powers of ten" if self.log else "")


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    choices: tuple[Any, ...]

    def ask(self, trial: Any, name: str) -> Any:
        return trial.suggest_categorical(name, self.choices)

    def nearest(self, value: Any) -> Any:
        return value if value in self.choices else min(self.choices, key=lambda choice: abs(choice - value))

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices))


@dataclass(frozen=True)
class ByOptimizer:
    """A range for each optimizer: a good rate of one is hopeless for another."""

    ranges: Mapping[str, Between]

    def __str__(self) -> str:
        return "; ".join(f"{optimizer}: {one}" for optimizer, one in self.ranges.items())


_ADAM = Between(1e-4, 1e-2, log=True)

SPACE: Registry[Between | OneOf | ByOptimizer] = Registry("value to search")
_RANGES: dict[str, Between | OneOf | ByOptimizer] = {
    "optimizer": OneOf(OPTIMIZERS),
    "learning_rate": ByOptimizer(
        {"adam": _ADAM, "adamw": _ADAM, "sgd": Between(1e-2, 0.5, log=True), "lion": Between(1e-5, 1e-3, log=True)}
    ),
    "weight_decay": Between(1e-4, 0.1, log=True),
    "batch_size": OneOf((32, 64, 128, 256)),
    "label_smoothing": Between(0, 0.2),
    "mixup": Between(0, 0.5),
    "cutmix": Between(0, 1),
    "average": OneOf((0.0, 0.99, 0.995, 0.998, 0.999)),
    "augmentation.rotation": Between(0, 30),
    "augmentation.shear": Between(0, 20),
    "augmentation.zoom": Between(0, 0.3),
    "augmentation.shift": Between(0, 0.2),
    "augmentation.flip": OneOf((False, True)),
    "augmentation.contrast": Between(0, 0.5),
    "augmentation.brightness": Between(0, 0.3),
    "augmentation.erase": Between(0, 0.5),
}
for _name, _range in _RANGES.items():
    SPACE.register(_name)(_range)

USUAL_SEARCH = ("learning_rate", "weight_decay", "label_smoothing")
USUAL_EPOCHS = 5


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of `SPACE`, each once; raises `UsageError` for one that cannot be searched, or for none."""
    for name in names:
        SPACE[name]
    if not names:
        raise UsageError(f"A search needs at least one value. Choices: {', '.join(SPACE)}.")
    return tuple(name for name in SPACE if name in names)


def suggest(trial: Any, names: Sequence[str], config: TrainConfig) -> dict[str, Any]:
    """Values for a trial of Optuna, by name; `names` as `checked` gives them, so that the optimizer comes first."""
    values: dict[str, Any] = {}
    for name in names:
        one = SPACE[name]
        if isinstance(one, ByOptimizer):
            optimizer = values.get("optimizer", config.optimizer)
            values[name] = one.ranges[optimizer].ask(trial, _key(name, optimizer, names))
        else:
            values[name] = one.ask(trial, name)
    return values


def starting_point(names: Sequence[str], config: TrainConfig) -> dict[str, Any]:
    """The config's own values, brought into the ranges, as Optuna takes them: keys are those of `suggest`."""
    point: dict[str, Any] = {}
    for name in names:
        one = SPACE[name]
        part, _, field = name.rpartition(".")
        value = getattr(getattr(config, part) if part else config, field)
        if isinstance(one, ByOptimizer):
            point[_key(name, config.optimizer, names)] = one.ranges[config.optimizer].nearest(value)
        else:
            point[name] = one.nearest(value)
    return point


def applied(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The config with the values of a trial.

    >>> applied(TrainConfig(), {"mixup": 0.2, "augmentation.zoom": 0.1}).augmentation.zoom
    0.1
    """
    return config.changed(**changes_of([f"{name}={value}" for name, value in values.items()], config.augmentation))


def _key(name: str, optimizer: str, names: Sequence[str]) -> str:
    """Where the optimizer is searched too, what was learnt of one optimizer's rates says nothing of another's."""
    return f"{name} of {optimizer}" if "optimizer" in names else name


@dataclass(frozen=True)
class Plan:
    """What a search does. recipe: where it starts. config: of every trial, but for the values that are searched."""

    recipe: str
    config: TrainConfig
    search: tuple[str, ...]

    @classmethod
    def of(
        cls, recipe: str = "better", search: Sequence[str] = USUAL_SEARCH, *, epochs: int | None = None, **changes: Any
    ) -> "Plan":
        """A plan from names; changes are values of `TrainConfig`. Raises `UsageError` for what makes no sense."""
        config = RECIPES[recipe].config.changed(**changes, epochs=USUAL_EPOCHS if epochs is None else epochs)
        if config.init is not None and changes.get("model") is None:
            config = config.changed(model=architecture_of(config.init))
        if config.schedule == "cosine" and config.epochs <= config.warmup_epochs:
            raise UsageError(
                f"{config.epochs} epochs are all warm-up here (warmup_epochs is {config.warmup_epochs:g}). Take more epochs, "
                "or --set warmup_epochs=0."
            )
        return cls(recipe, config, checked(search))

    def full(self, values: Mapping[str, Any]) -> TrainConfig:
        """A config with these values for a run of the recipe's own length."""
        return applied(self.config.changed(epochs=RECIPES[self.recipe].config.epochs), values)

    def command(self, values: Mapping[str, Any], data: Sequence[str]) -> str:
        """The `ferkit train` that trains with these values at full length; data: its argument and options."""
        options = as_options(self.full(values), RECIPES[self.recipe].config)
        return shlex.join(["ferkit", "train", *data, "--recipe", self.recipe, *options])

    def check(self, recipe: str | None, search: Sequence[str] | None, **changes: Any) -> None:
        """Refuse to be gone on with under other values; None and what is left out agree with everything."""
        other = [] if recipe in (None, self.recipe) else ["recipe"]
        if search is not None and checked(search) != self.search:
            other.append("search")
        wanted = self.config.changed(**changes).to_dict()
        other += [name for name, value in self.config.to_dict().items() if wanted[name] != value]
        if other:
            raise TrainingError(
                f"The search was started with other values of {', '.join(other)}. Resume without them, or start a new one."
            )

    def to_dict(self) -> dict[str, Any]:
        # As JSON gives it back: lists for tuples.
        plan: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plan

    @classmethod
    def from_dict(cls, plan: Mapping[str, Any]) -> "Plan":
        return cls(plan["recipe"], TrainConfig.from_dict(plan["config"]), checked(plan["search"]))


@dataclass(frozen=True)
class Trial:
    """A trial. number: from 1, which has the recipe's own values. accuracy: of its best epoch, on the validation split.

    state: "done", "stopped" (below the median of the others) or "failed" (it could not be trained; `why` says it).
    """

    number: int
    state: str
    values: dict[str, Any]
    accuracy: float | None
    epochs: int
    why: str = ""


@dataclass(frozen=True)
class Tuning:
    """Where a search stands: its trials in order, and the faces that accuracies were measured on."""

    plan: Plan
    folder: Path
    trials: tuple[Trial, ...]
    split: str
    faces: int

    @property
    def ranked(self) -> list[Trial]:
        """Finished trials, best first."""
        done = [trial for trial in self.trials if trial.state == "done"]
        return sorted(done, key=lambda trial: -(trial.accuracy or 0))

    @property
    def caveat(self) -> str:
        """What a reader must know about the best figure."""
        best = self.ranked[0].accuracy or 0
        low, high = metrics.wilson_interval(round(best * self.faces), self.faces)
        return (
            f"The best of {len(self.trials)} trials, chosen on {self.split}, so {100 * best:.1f} % is optimistic: "
            f"even one that was not chosen would have a 95 % interval of {100 * low:.1f} to {100 * high:.1f}. Each had one "
            f"seed and epochs={self.plan.config.epochs}. Train the best few with other seeds at full length, and measure what "
            "you choose on faces that it was not chosen on."
        )

    def to_dict(self, data: Sequence[str]) -> dict[str, Any]:
        """What `best.json` holds; data: argument and options of `ferkit train`."""
        best = self.ranked[0]
        return {
            "best": asdict(best),
            "command": self.plan.command(best.values, data),
            "config": self.plan.full(best.values).to_dict(),
            "recipe": self.plan.recipe,
            "search": list(self.plan.search),
            "epochs": self.plan.config.epochs,
            "split": self.split,
            "n": self.faces,
            "caveat": self.caveat,
            "trials": [asdict(trial) for trial in self.trials],
        }
