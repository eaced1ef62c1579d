"""Layers that see the whole batch where TensorFlow has split it over several devices.

Left alone, batch normalisation takes the statistics of each device's own faces, and dropout makes the same choice on
all of them. The layers keep their class and weights, as in `ferkit.models.kernels`.
"""

from types import MethodType
from typing import Any

from ferkit.devices import own_rows
from ferkit.keras_backend import load_keras


def see_whole_batch(network: Any) -> None:
    """Let the batch normalisations and dropouts of a network do to a split batch what they would do to a whole one."""
    layers = load_keras().layers
    for layer in network._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, layers.Dropout):
            layer.call = MethodType(_dropout_call, layer)


def _dropout_call(self: Any, inputs: Any, training: bool = False) -> Any:
    keras = load_keras()
    if not training or self.rate == 0:
        return inputs
    shape = keras.ops.shape(inputs)

    def factors(rows: Any) -> Any:
        ones = keras.ops.ones((rows, *shape[1:]), dtype=inputs.dtype)
        return keras.random.dropout(ones, self.rate, noise_shape=self.noise_shape, seed=self.seed_generator)

    return inputs * own_rows(factors, shape[0])
