"""A step of training: batches of faces and targets, the network behind its augmentation, loss, optimizer, averaged weights.

The loss is written once for all backends: cross-entropy, weighted for rare classes and hard faces. A network with two
heads gives both answers side by side, (N, 2 x classes), the labels' first, then the votes'; its targets are laid out
likewise.

The averaged weights (Polyak & Juditsky 1992, here with exponentially falling weights) do better on new faces than those
of the last step. Keras' own optimizer keeps them among its variables, so they are computed inside the compiled step and
stored in the checkpoint. Keras would put the average in the place of the weights at the end of every `fit`; here
training goes on from the weights, and the average is put there only to be evaluated.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.keras_backend import load_keras
from ferkit.data import Faces, FaceSet
from ferkit.models import ARCHITECTURES, use_fast_depthwise, use_fused_normalization
from ferkit.training.augmentation import augmenter
from ferkit.training.config import TrainConfig
from ferkit.training.mixing import mixed
from ferkit.training.schedules import SCHEDULES, Span
from ferkit.training.targets import Targets


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


# Keras cuts probabilities off at the same place.
_LEAST = 1e-7

Loss = Callable[[Any, Any], Any]


def is_plain(config: TrainConfig) -> bool:
    """Whether the objective is nothing but cross-entropy with the targets."""
    return not (config.focal or config.class_weight or config.votes_weight)


def objective(config: TrainConfig, counts: npt.NDArray[np.int64]) -> "str | Loss":
    """The loss for `compile`. counts: (classes,), training faces of each class."""
    if is_plain(config):
        return "categorical_crossentropy"
    ops, classes = load_keras().ops, len(counts)
    weights = class_weights(counts, config.class_weight)

    def loss(targets: Any, answers: Any) -> Any:
        own = ops.clip(answers[:, :classes], _LEAST, 1.0)
        terms = targets[:, :classes] * -ops.log(own)
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

    With two heads also how often the second one finds the FER+ majority label.
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


# Every architecture's last layer has this name; the one on votes stands beside it.
LABELS_HEAD, VOTES_HEAD = "probabilities", "votes"
# How many times as long as the average of weights looks back a run must be: e ** -10 of the first weights are left.
_LOOKS_BACK = 10


def untrained_network(faces: FaceSet, config: TrainConfig) -> Any:
    """The network that a config asks for, fitting these faces.

    Under bfloat16 its layers compute in 16 bits and keep their weights in 32.
    """
    keras = load_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if config.precision == "bfloat16" else "float32")
    try:
        build = ARCHITECTURES[config.model]
        return build(len(faces.classes), input_shape=faces.images.shape[1:], activation=config.activation)
    finally:
        keras.config.set_dtype_policy(before)


def with_votes_head(network: Any) -> Any:
    """The network with a second last layer, for votes, beside its own: both answers in one, (N, 2 x classes)."""
    keras = load_keras()
    head = network.get_layer(LABELS_HEAD)
    votes = keras.layers.Dense(head.units, activation="softmax", dtype="float32", name=VOTES_HEAD)(head.input)
    both = keras.layers.Concatenate(dtype="float32", name="both")([network.output, votes])
    return keras.Model(network.input, both, name=network.name)


def compiled_model(network: Any, config: TrainConfig, steps: int, counts: npt.NDArray[np.int64]) -> Any:
    """The network with the augmentation in front of it, compiled: one step takes bytes and does all the rest.

    steps: batches of an epoch, which the schedule is stretched by. counts: (classes,), training faces of each class.
    """
    keras = load_keras()
    use_fused_normalization(network)
    use_fast_depthwise(network)
    pixels = keras.Input(network.input_shape[1:], dtype="uint8", name="faces")
    augment = augmenter(config.augmentation, config.seed)
    model = keras.Model(pixels, network(augment(pixels)), name="training")
    model.compile(
        optimizer=_optimizer(config, steps),
        loss=objective(config, counts),
        metrics=watched(config, len(counts)),
        # JAX is always compiled. TensorFlow's XLA is slower on the CPU, and does not know the operation that moves
        # faces (tensorflow/tensorflow#100865).
        jit_compile="auto" if keras.backend.backend() != "tensorflow" else False,
    )
    # TensorFlow traces a step twice if variables come into being in it, and tracing is what a short run waits for.
    model.optimizer.build(model.trainable_variables)
    return model


def _optimizer(config: TrainConfig, steps: int) -> Any:
    keras = load_keras()
    warmup = round(config.warmup_epochs * steps)
    rate = SCHEDULES[config.schedule](Span(config.learning_rate, warmup, config.epochs * steps))
    options: dict[str, Any] = {"weight_decay": config.weight_decay or None}
    if config.accumulate > 1:
        options["gradient_accumulation_steps"] = config.accumulate
    if config.average:
        # Keras averages once a batch, of which only every accumulate-th changes the weights.
        options |= {"use_ema": True, "ema_momentum": _decay(config, steps)}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, **{**options, "weight_decay": config.weight_decay})
    elif config.optimizer == "lion":
        optimizer = keras.optimizers.Lion(rate, **options)
    else:
        optimizer = keras.optimizers.Adam(rate, **options)
    if config.weight_decay:
        # Decay is for kernels: biases and batch normalisation do without (He et al. 2019, "Bag of Tricks", 3.1).
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    keep_weights(optimizer)
    return optimizer


def _decay(config: TrainConfig, steps: int) -> float:
    """Of the running average, per batch. It starts at the weights after the first step and must have forgotten them."""
    longest = 1 - _LOOKS_BACK / (config.epochs * steps / config.accumulate)
    return float(max(0.0, min(config.average, longest)) ** (1 / config.accumulate))


def batches_of(views: Sequence[Faces], targets: Sequence[Targets], batch_size: int, config: TrainConfig) -> Any:
    """Batches as a Keras `PyDataset`: uint8 faces and float32 targets, in an order that the seed and epoch decide.

    views: one or more views of all faces, each uint8 (N, height, width, channels); every epoch shows each face in one,
    and as many epochs as there are views in each. targets: of each view, (N, outputs).
    """
    keras = load_keras()
    n = len(views[0])

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.order = np.arange(n)
            self.first = np.random.default_rng(config.seed).integers(len(views), size=n)
            self.epoch = 0

        def __len__(self) -> int:
            return n // batch_size

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
            chosen = self.order[index * batch_size : (index + 1) * batch_size]
            shown = list(zip((self.first[chosen] + self.epoch) % len(views), chosen, strict=True))
            faces, wanted = (np.stack([one[view][face] for view, face in shown]) for one in (views, targets))
            rng = np.random.default_rng([config.seed, self.epoch, index])
            if rng.random() < config.mix_share:
                faces, wanted = mixed(faces, wanted, mixup=config.mixup, cutmix=config.cutmix, rng=rng)
            return faces, wanted

        def shuffle(self, epoch: int) -> None:
            self.epoch = epoch
            self.order = np.random.default_rng([config.seed, epoch]).permutation(n)

    return Batches()
