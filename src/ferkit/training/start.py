"""What a run starts from: its config and data, the weights of another model, choices that only Keras can check, its phases.

A run has one phase, or in fine-tuning two: first the head alone, then the base with it at a lower rate.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.keras_backend import load_keras
from ferkit.data import Dataset, load_dataset, may_share_faces
from ferkit.errors import DatasetError, TrainingError, UsageError
from ferkit.labels import canonical
from ferkit.models import ARCHITECTURES, freeze_base, head_layers, members_of, model_folder, start_of, unfreeze
from ferkit.models import exporting as export
from ferkit.training.config import RECIPES, TrainConfig
from ferkit.training.step import compiled_model

# A data set, its source, or what loads it: checks that need no data come before it.
Data = Dataset | str | Path | Callable[[], Dataset]


def architecture_of(init: str | Path) -> str | None:
    """The architecture that a model folder says it has; None where nothing says it, or it is not known here."""
    name = _card(init).get("architecture")
    return name if name in ARCHITECTURES else None


def config_of(recipe: str | TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """A recipe with changes. Its network gives way to that of `init` or `weights`; a config says itself which it wants."""
    base = recipe if isinstance(recipe, TrainConfig) else RECIPES[recipe].config
    config = base.changed(**changes)
    if isinstance(recipe, str) and "model" not in changes:
        start = start_of(config.weights)
        given = architecture_of(config.init) if config.init is not None else start and start.network
        config = config.changed(model=given or config.model)
    return config


def load_data(data: Data) -> Dataset:
    """The data set that is meant; what a path or a function gives is loaded now."""
    if isinstance(data, Dataset):
        return data
    return data() if callable(data) else load_dataset(data)


def _card(init: str | Path) -> Mapping[str, Any]:
    """The card of a model folder; of a bare file nothing."""
    path = model_folder.find(init)
    return model_folder.read_card(path) if path.is_dir() else {}


def sources_of(config: TrainConfig) -> dict[str, list[dict[str, Any]]]:
    """What the models that a run begins as and learns from say of the data that they learnt from, themselves and through others."""
    models = dict.fromkeys(one for one in (config.init, *config.teachers) if one is not None)
    cards = {model: [_card(one) for one in members_of(model)] for model in models}
    said = {
        model: [data for card in known for data in (model_folder.trained_on(card), *model_folder.learnt_from(card))]
        for model, known in cards.items()
    }
    return {model: [one for one in data if one] for model, data in said.items()}


def check_sources(config: TrainConfig, dataset: Dataset) -> str | None:
    """A warning where such a model may have learnt faces that this run holds out; its figures would be too good."""
    sources = sources_of(config).items()
    seen = [model for model, data in sources if any(may_share_faces(one, dataset) for one in data)]
    if not seen:
        return None
    return (
        f"Warning: {', '.join(seen)}: trained on {Path(dataset.source).name} with other splits, so faces that are held out here may "
        "be training faces, and the metrics too high. Train all models with the same --split."
    )


def check_splits(dataset: Dataset) -> None:
    """Raise `DatasetError` if there is nothing to train on, or nothing to choose the best epoch on."""
    for faces, what in ((dataset.train, "train on"), (dataset.val, "choose the best epoch on")):
        if not len(faces):
            raise DatasetError(f"{faces.name} of {dataset.source} has no face to {what}. Expected at least one.")


def take_weights(network: Any, init: str | Path, classes: Sequence[str]) -> str | None:
    """Give layers the weights of those of the same name and shapes in another model; what did not fit, in one line.

    The head is taken only from a model of the same classes in the same order: one that knows others would begin surely
    wrong. Raises `TrainingError` if nothing fits.
    """
    source = {layer.name: layer.get_weights() for layer in export.open_network(init).layers}
    heads = {layer.name for layer in head_layers(network)}
    known = _card(init).get("classes")
    other_classes = known is not None and list(map(canonical, known)) != list(map(canonical, classes))
    weighted = [layer for layer in network.layers if layer.weights]
    fresh = []
    for layer in weighted:
        weights = source.get(layer.name)
        if weights and not (other_classes and layer.name in heads) and _shapes(weights) == _shapes(layer.get_weights()):
            layer.set_weights(weights)
        else:
            fresh.append(layer.name)
    if len(fresh) == len(weighted):
        raise TrainingError(
            f"No layer of {init} fits the network {network.name!r}: choose the --model it was trained as."
        )
    # A new head is what one wants of data with other classes.
    if set(fresh) <= heads:
        return None
    return f"{len(weighted) - len(fresh)} of {len(weighted)} layers take their weights from {init}; random: {', '.join(fresh)}."


def _shapes(weights: Sequence[Any]) -> list[tuple[int, ...]]:
    return [one.shape for one in weights]


def check_activation(name: str) -> None:
    """Raise `UsageError` for a name that Keras does not know, or that is no function of single numbers."""
    keras = load_keras()
    if _keeps_shape(name):
        return
    try:
        keras.activations.get(name)
        said = f"{name!r} cannot stand behind a convolution: it changes the shape, or wants values of its own."
    except ValueError:
        said = f"Keras knows no activation {name!r}."
    choices = [one for one in dir(keras.activations) if not one.startswith("_") and _keeps_shape(one)]
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"{said} {hint}Choices: {', '.join(choices)}.")


def _keeps_shape(activation: str) -> bool:
    keras = load_keras()
    shape = (1, 2, 2, 4)
    try:
        return tuple(keras.activations.get(activation)(keras.ops.ones(shape)).shape) == shape
    except (TypeError, ValueError, AttributeError):
        return False


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with an optimizer and a schedule of its own.

    config: as if the phase were a run, so `epochs` and `learning_rate` are the phase's. first: epochs of the run before
    it. head_only: whether only the last layer learns.
    """

    config: TrainConfig
    first: int
    head_only: bool

    def compiled(self, network: Any, steps: int, counts: npt.NDArray[np.int64]) -> Any:
        """The training model of this phase, its optimizer new; see `ferkit.training.step.compiled_model`."""
        if self.head_only:
            freeze_base(network)
        elif self.first or self.config.unfreeze:
            unfreeze(network, self.config.unfreeze)
        return compiled_model(network, self.config, steps, counts)


def phases_of(config: TrainConfig) -> Sequence[Phase]:
    """The phases that a config asks for, in their order."""
    if not config.head_epochs:
        return [Phase(config, 0, head_only=False)]
    rate = config.unfreeze_rate or config.learning_rate / 10
    head = replace(config, epochs=config.head_epochs, head_epochs=0, unfreeze_rate=None)
    rest = replace(
        config, epochs=config.epochs - config.head_epochs, head_epochs=0, learning_rate=rate, unfreeze_rate=None
    )
    return [Phase(head, 0, head_only=True), Phase(rest, config.head_epochs, head_only=False)]


def phase_of(epoch: int, phases: Sequence[Phase]) -> Phase:
    """The phase that an epoch, counted from 1, belongs to."""
    return [phase for phase in phases if phase.first < epoch][-1]
