"""What a run starts from: the weights of another model, and choices that only Keras can check."""

import difflib
from pathlib import Path
from typing import Any

from ferkit import export, model_folder
from ferkit.errors import TrainingError, UsageError
from ferkit.keras_backend import load_keras
from ferkit.models import ARCHITECTURES


def architecture_of(init: str | Path) -> str | None:
    """The architecture that a model folder says it has; None where nothing says it, or it is not known here."""
    path = model_folder.find(init)
    name = model_folder.read_card(path).get("architecture") if path.is_dir() else None
    return name if name in ARCHITECTURES else None


def take_weights(network: Any, init: str | Path) -> None:
    source = {layer.name: layer.get_weights() for layer in export.open_network(init).layers}
    taken = 0
    for layer in network.layers:
        weights = source.get(layer.name)
        if weights and [w.shape for w in weights] == [w.shape for w in layer.get_weights()]:
            layer.set_weights(weights)
            taken += 1
    if taken == 0:
        raise TrainingError(
            f"No layer of {init} fits the network {network.name!r}: choose the --model it was trained as."
        )


def check_activation(name: str) -> None:
    keras = load_keras()
    try:
        keras.activations.get(name)
    except ValueError as problem:
        choices = [
            n for n in dir(keras.activations) if not n.startswith("_") and n not in ("get", "serialize", "deserialize")
        ]
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"Keras knows no activation {name!r}. {hint}Choices: {', '.join(choices)}.") from problem
