"""A search over the values of a recipe on paper: its plan, its trials, where it stands. `ferkit.training` does it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferkit.errors import TrainingError, UsageError
from ferkit.evaluation import metrics
from ferkit.render import DataTable, Document, Printed, Section, Text
from ferkit.training.config import RECIPES, SPACE, USUAL_EPOCHS, USUAL_SEARCH, TrainConfig, to_args
from ferkit.training.start import config_of
from ferkit.training.values import ByOptimizer, get

_SHOWN = 10  # trials in a table for people
_STATES = {"done": "done", "stopped": "stopped early", "failed": "failed"}


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
        value = get(config, name)
        if isinstance(one, ByOptimizer):
            point[_key(name, config.optimizer, names)] = one.ranges[config.optimizer].nearest(value)
        else:
            point[name] = one.nearest(value)
    return point


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
    def of(cls, recipe: str = "better", search: Sequence[str] = USUAL_SEARCH, **changes: Any) -> "Plan":
        """A plan from names; changes are values of `TrainConfig`. Raises `UsageError` for what makes no sense."""
        config = config_of(recipe, {"epochs": USUAL_EPOCHS, **changes})
        return cls(recipe, config, checked(search))

    def full(self, values: Mapping[str, Any]) -> TrainConfig:
        """A config with these values for a run of the recipe's own length."""
        return self.config.changed(**{"epochs": RECIPES[self.recipe].config.epochs, **values})

    def command(self, values: Mapping[str, Any], data: Sequence[str]) -> str:
        """The `ferkit train` that trains with these values at full length; data: its argument and options."""
        options = to_args(self.full(values), RECIPES[self.recipe].config)
        return shlex.join(["ferkit", "train", *data, "--recipe", self.recipe, *options])

    def check(self, recipe: "str | Plan | None", search: Sequence[str] | None, changes: Mapping[str, Any]) -> None:
        """Refuse to be gone on with under other values; None and what is left out agree with everything."""
        if isinstance(recipe, Plan):
            if recipe != self:
                raise TrainingError(
                    "The folder holds another search. Resume it with the options it was started with, or none."
                )
            return
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
class Tuning(Printed):
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

    def document(self) -> Document:
        """The best trials, and the first wherever it stands: it has the recipe's own values."""
        shown = [trial for rank, trial in enumerate(self.ranked) if rank < _SHOWN or trial.number == 1]
        rows = tuple(
            (
                f"{trial.number} (recipe)" if trial.number == 1 else str(trial.number),
                f"{trial.accuracy:.2%}",
                *(str(trial.values[name]) for name in self.plan.search),
            )
            for trial in shown
        )
        names = (name.removeprefix("augmentation.") for name in self.plan.search)
        states = [trial.state for trial in self.trials]
        counts = (f"{states.count(state)} {word}" for state, word in _STATES.items())
        said = Text(f"{len(states)} trials: {', '.join(counts)}.")
        return Document("", "", (Section("", (DataTable(("trial", "accuracy", *names), rows), said)),))

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
