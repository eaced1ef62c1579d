"""What a step of training makes small: cross-entropy, and what is done to it for rare classes, wrong labels, two heads.

Written once for all backends. A network with two heads gives both answers side by side, (N, 2 x classes): the labels'
first, then the votes'; its targets are laid out likewise.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.keras_backend import load_keras
from ferkit.recipes import TrainConfig

# Keras cuts probabilities off at the same place.
_LEAST = 1e-7

Loss = Callable[[Any, Any], Any]


def is_plain(config: TrainConfig) -> bool:
    """Whether the objective is nothing but cross-entropy with the targets."""
    return not (config.focal or config.class_weight or config.bootstrap or config.votes_weight)


def objective(config: TrainConfig, counts: npt.NDArray[np.int64]) -> "str | Loss":
    """The loss for `compile`. counts: (classes,), training faces of each class."""
    if is_plain(config):
        return "categorical_crossentropy"
    ops, classes = load_keras().ops, len(counts)
    weights = class_weights(counts, config.class_weight)

    def loss(targets: Any, answers: Any) -> Any:
        own = ops.clip(answers[:, :classes], _LEAST, 1.0)
        wanted = targets[:, :classes]
        if config.bootstrap:
            # Reed et al. 2015, eq. 6. As a constant: the network shall not make its answer easier to hit.
            wanted = (1 - config.bootstrap) * wanted + config.bootstrap * ops.stop_gradient(own)
        terms = wanted * -ops.log(own)
        if config.focal:
            # Off 1, where a root has no slope.
            terms = terms * (1 - ops.minimum(own, 1 - _LEAST)) ** config.focal
        labels_loss = ops.sum(terms, axis=-1)
        if config.class_weight:
            # The face is weighed, not each term: else smoothing would ask most faces for the rarest class.
            labels_loss = labels_loss * ops.sum(targets[:, :classes] * ops.convert_to_tensor(weights), axis=-1)
        if not config.votes_weight:
            return labels_loss
        votes_loss = cross_entropy(targets[:, classes:], answers[:, classes:])
        return (1 - config.votes_weight) * labels_loss + config.votes_weight * votes_loss

    return loss


def watched(config: TrainConfig, classes: int) -> list[Any]:
    """The metrics for `compile`: accuracy, and, where the loss is another one, the log loss on the labels.

    With two heads also how often the second one finds the voters' first choice.
    """
    metrics = load_keras().metrics
    if is_plain(config):
        return [metrics.CategoricalAccuracy(name="accuracy")]
    found: list[tuple[str, Loss]] = [
        ("accuracy", lambda targets, answers: _same_first(targets[:, :classes], answers[:, :classes])),
        ("log_loss", lambda targets, answers: cross_entropy(targets[:, :classes], answers[:, :classes])),
    ]
    if config.votes_weight:
        found.append(
            ("votes_accuracy", lambda targets, answers: _same_first(targets[:, classes:], answers[:, classes:]))
        )
    return [metrics.MeanMetricWrapper(fn, name=name) for name, fn in found]


def cross_entropy(targets: Any, answers: Any) -> Any:
    """(N,), in nats; targets and answers (N, classes)."""
    ops = load_keras().ops
    return -ops.sum(targets * ops.log(ops.clip(answers, _LEAST, 1.0)), axis=-1)


def class_weights(counts: npt.NDArray[np.int64], power: float) -> npt.NDArray[np.float32]:
    """Weights by class, float32: frequency ** -power, scaled so that the mean over all faces is 1.

    A class without a face has the weight 0: what smoothing gives it says nothing about a face.

    >>> class_weights(np.array([100, 300]), 1.0)
    array([2.       , 0.6666667], dtype=float32)
    """
    frequency = counts / counts.sum()
    weights = np.where(counts > 0, np.maximum(frequency, 1 / counts.sum()) ** -power, 0)
    scaled: npt.NDArray[np.float32] = (weights / (weights * frequency).sum()).astype(np.float32)
    return scaled


def _same_first(targets: Any, answers: Any) -> Any:
    ops = load_keras().ops
    return ops.cast(ops.argmax(targets, axis=-1) == ops.argmax(answers, axis=-1), "float32")
