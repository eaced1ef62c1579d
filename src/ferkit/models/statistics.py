"""Batch normalisation's running statistics, taken anew from clean faces.

In training the statistics are averaged over augmented faces, and in layers behind a dropout over activations whose
variance dropout has raised ("variance shift", Li et al. 2019). Later the network meets neither, and its accuracy jumps
by points from epoch to epoch with how badly the statistics happen to fit (docs/LOG.md has figures).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.keras_backend import load_keras

_FACES = 2048
_BATCH = 512
# Keras keeps what all layers answer until the last one has: 512 faces of 96x96 through a ResNet-50 are 20 GB.
_NUMBERS = 2**29


def recalibrate_normalization(network: Any, faces: npt.NDArray[np.uint8]) -> None:
    """Set the running mean and variance of every batch normalisation to those of faces as they are, without dropout.

    "Precise batch normalisation" (Wu & Johnson 2021): one pass over up to 2,048 faces spread evenly over the set,
    uint8 (N, height, width, channels); statistics of large batches are averaged. Weights stay as they are.
    """
    keras = load_keras()
    layers = list(network._flatten_layers())
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [layer.momentum for layer in norms], [layer.rate for layer in dropouts]
    chosen = faces[np.unique(np.linspace(0, len(faces) - 1, min(_FACES, len(faces))).astype(int))]
    # A last batch of a few faces would weigh as much as a full one.
    batches = np.array_split(chosen, max(len(chosen) // _batch_of(layers), 1))
    try:
        for dropout in dropouts:
            dropout.rate = 0.0
        for number, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = number / (number + 1)  # makes the running average a plain mean over batches
            network(batch, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.rate = rate


def _batch_of(layers: list[Any]) -> int:
    """How many faces fit into the memory that `_NUMBERS` stands for, at most `_BATCH`."""
    numbers: int = sum(math.prod(layer.output.shape[1:]) for layer in layers if hasattr(layer, "output"))
    return max(min(_BATCH, _NUMBERS // numbers), 16)
