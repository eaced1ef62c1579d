"""Fine-tuning in two phases: first the new head alone on a base that stays as it is, then the base with it, slowly.

So Keras' guide to transfer learning has it (https://keras.io/guides/transfer_learning/): gradients of a head that knows
nothing yet would spoil what the base knows. Batch normalisation of the base stays in inference mode in both phases, with
the statistics and factors that it was trained with; those of a small data set would spoil them as well.

Both functions only set `trainable` of layers, so the model must be compiled after them: what learns and what is kept
in a compiled step and in an optimizer is settled there.
"""

import math
from collections.abc import Iterator
from typing import Any

from ferkit.errors import UsageError
from ferkit.keras_backend import load_keras


def freeze_base(network: Any) -> int:
    """Let only the head learn: the last layers with weights, one for each answer of the network.

    Works for every architecture, before or after it was put into a model for training; compile after it.
    Returns how many numbers learn.
    """
    heads = {id(layer) for layer in head_layers(network)}
    for layer in weighted_layers(network):
        layer.trainable = id(layer) in heads
    return learning_parameters(network)


def thaw(network: Any, top: int | None = None) -> int:
    """Let the head learn and, of the base, the last `top` layers with weights or all (None); compile after it.

    Batch normalisation counts as no layer and stays in inference mode. More layers than there are mean all.
    Returns how many numbers learn. Raises `UsageError` for a `top` below 1.
    """
    if top is not None and top < 1:
        raise UsageError(f"At least 1 layer of the base must thaw. Received: {top}. Leave it out to thaw all.")
    keras = load_keras()
    freeze_base(network)
    frozen = [layer for layer in weighted_layers(network) if not layer.trainable]
    base = [layer for layer in frozen if not isinstance(layer, keras.layers.BatchNormalization)]
    for layer in base if top is None else base[-top:]:
        layer.trainable = True
    return learning_parameters(network)


def learning_parameters(network: Any) -> int:
    """How many numbers of a network learn."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def head_layers(network: Any) -> list[Any]:
    """The last layers with weights on the way to the answer: one, or one for each of several answers."""
    found: list[Any] = []
    edges = list(network.outputs)
    while edges:
        operation = edges.pop()._keras_history.operation
        if getattr(operation, "weights", None):
            found.append(operation)
        else:
            edges += load_keras().tree.flatten(operation.input)
    return found


def weighted_layers(network: Any) -> Iterator[Any]:
    """All layers that have weights of their own, from pixels to answer, those inside layers of layers too."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from weighted_layers(layer)
        elif layer.weights:
            yield layer
