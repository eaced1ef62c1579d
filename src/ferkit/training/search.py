"""A search over the values of a recipe on paper: its plan, its trials, where it stands. `ferkit.training` does it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferkit.errors import TrainingError, UsageError
from ferkit.evaluation import metrics
from ferkit.training.config import RECIPES, TrainConfig, as_options
from ferkit.training.search_space import USUAL_EPOCHS, USUAL_SEARCH, applied, checked
from ferkit.training.start import architecture_of


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
