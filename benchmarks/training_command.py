"""The command that trained a model, from what its card says."""

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferkit.training.config import RECIPES, TrainConfig, as_options


@dataclass(frozen=True)
class Training:
    """How a model came about: a recipe, the words that make it another, and the seed.

    data: what the card says of the data it was trained on.
    """

    recipe: str
    options: tuple[str, ...]
    seed: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, card: Mapping[str, Any], folder: str) -> "Training":
        """From the card of a model in a folder of this name."""
        training = card["training"]
        config = config_of(training["recipe"])
        recipe = training.get("recipe_name") or folder
        if recipe not in RECIPES:
            # Told in full either way; from the recipe that is nearest, it is told in the fewest words.
            recipe = min(RECIPES, key=lambda name: len(_options(config, name)))
        return cls(recipe, tuple(_options(config, recipe)), config.seed, training["data"])

    def command(self, out: str = "", *, seed: bool = True, faces: int | None = None) -> str:
        """As one line. seed: whether it says the seed. faces: how many there are to train on, if some were dropped."""
        words = ["ferkit", "train", "DATA", "--recipe", self.recipe, *self.options]
        trained = {name.lower(): count for name, count in self.data["faces"].items()}
        if "train" in trained:
            words += ["--split", "random"]
        if faces is not None and trained.get("training", faces) < faces:
            words += ["--drop-duplicates"]
        if self.data.get("votes"):
            words += ["--votes", "VOTES"]
        if seed and self.seed != RECIPES[self.recipe].config.seed:
            words += ["--seed", str(self.seed)]
        return shlex.join(words + (["--out", out] if out else []))


def config_of(stored: Mapping[str, Any]) -> TrainConfig:
    """The config in a card, whichever version wrote it: values that came later were off, those that are gone say nothing."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    parts = {field.name for field in dataclasses.fields(TrainConfig().augmentation)}
    values = {name: value for name, value in stored.items() if name in known}
    values["augmentation"] = {name: value for name, value in stored["augmentation"].items() if name in parts}
    return TrainConfig.from_dict(values)


def _options(config: TrainConfig, recipe: str) -> list[str]:
    usual = RECIPES[recipe].config
    return as_options(dataclasses.replace(config, seed=usual.seed), usual)


def folder_name(model: Path) -> str:
    """A run's folder by its name; a second model inside a run by both names, as in `mine/votes`."""
    inside = (model.parent / "config.json").is_file()
    return f"{model.parent.name}/{model.name}" if inside else model.name
