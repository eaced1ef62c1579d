"""How large a network is: the two numbers by which models are compared."""

import math
from typing import Any


def multiply_adds(network: Any) -> int:
    """Multiply-adds of one forward pass over one face: convolutions and dense layers, as papers count them.

    Normalisation, activations and pooling are left out; each weight of a kernel counts once per output position.
    """
    total = 0
    for layer in network._flatten_layers():
        kernel = getattr(layer, "kernel", None)
        if kernel is None or not hasattr(layer, "output"):
            continue
        # All axes between batch and channels are positions; a dense layer on a vector has none.
        total += math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])
    return total
