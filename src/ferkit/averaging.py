"""An average of the weights over the steps of training, which does better on new faces than the last step's weights.

Polyak & Juditsky 1992; here with exponentially falling weights. The average is kept by Keras' own optimizer
among its variables, so that it is computed inside the compiled step and stored in the checkpoint with the rest. Keras
would end every call of `fit` by putting the average in the place of the weights; here training goes on from the weights,
and the average is put there only to be looked at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def keep_weights(optimizer: Any) -> None:
    """Let `fit` end with the weights as the last step left them, whatever average the optimizer keeps."""
    optimizer.finalize_variable_values = lambda trainable_variables: None


def use_average(model: Any) -> None:
    """Put the average in the place of a compiled model's weights; does nothing where none is kept."""
    optimizer = model.optimizer
    if optimizer.use_ema:
        type(optimizer).finalize_variable_values(optimizer, model.trainable_variables)
        # In memory of their own: on JAX both are the same array now, and a compiled step may take it for good.
        for variable in model.trainable_variables:
            variable.assign(variable.numpy())


@contextmanager
def averaged(model: Any) -> Iterator[None]:
    """The average in the place of the weights within a `with`, the weights themselves, to the bit, after it."""
    weights = [variable.numpy() for variable in model.trainable_variables] if model.optimizer.use_ema else []
    use_average(model)
    try:
        yield
    finally:
        if weights:
            for variable, value in zip(model.trainable_variables, weights, strict=True):
                variable.assign(value)
