"""What `ferkit tune` can search: each value of a `TrainConfig` with its range. The ranges are data, in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferkit._support.registry import Registry
from ferkit.errors import UsageError
from ferkit.training.config import OPTIMIZERS, TrainConfig, changes_of


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
