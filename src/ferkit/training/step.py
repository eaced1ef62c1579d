"""What a step of training sees and does: batches of faces and targets, the network behind its augmentation, the optimizer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit.augmentation import augmenter
from ferkit.averaging import keep_weights
from ferkit.datasets.records import Faces, FaceSet
from ferkit.devices import apply_once, replicas
from ferkit.keras_backend import load_keras
from ferkit.mixing import mixed
from ferkit.models import ARCHITECTURES
from ferkit.models.kernels import use_fused_normalization
from ferkit.models.whole_batch import see_whole_batch
from ferkit.recipes import TrainConfig
from ferkit.schedules import SCHEDULES, Span
from ferkit.training.objectives import objective, watched
from ferkit.training.sharpness import sharpness_aware
from ferkit.training.targets import Targets

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
    if replicas() > 1:
        see_whole_batch(network)
    else:
        use_fused_normalization(network)
    pixels = keras.Input(network.input_shape[1:], dtype="uint8", name="faces")
    augment = augmenter(config.augmentation, config.seed)
    if config.sharpness:
        model = sharpness_aware(pixels, augment, network, config.sharpness)
    else:
        model = keras.Model(pixels, network(augment(pixels)), name="training")
    model.compile(
        optimizer=_optimizer(config, steps),
        loss=objective(config, counts),
        metrics=watched(config, len(counts)),
        # JAX is always compiled. TensorFlow's XLA is slower on the CPU, and does not know the operation that moves faces
        # (tensorflow/tensorflow#100865), nor several devices.
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
    if config.accumulate > 1 and replicas() > 1:
        apply_once(optimizer)
    return optimizer


def _decay(config: TrainConfig, steps: int) -> float:
    """Of the running average, per batch. It starts at the weights after the first step and must have forgotten them."""
    longest = 1 - _LOOKS_BACK / (config.epochs * steps / config.accumulate)
    return float(max(0.0, min(config.average, longest)) ** (1 / config.accumulate))


def batches_of(images: Faces, targets: Targets, batch_size: int, config: TrainConfig) -> Any:
    """Batches as a Keras `PyDataset`: uint8 faces and float32 targets, in an order that the seed and epoch decide.

    images: uint8 (N, height, width, channels). targets: (N, outputs).
    """
    keras = load_keras()

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.order = np.arange(len(images))
            self.epoch = 0

        def __len__(self) -> int:
            return len(images) // batch_size

        def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
            chosen = self.order[index * batch_size : (index + 1) * batch_size]
            faces, wanted = images[chosen], targets[chosen]
            rng = np.random.default_rng([config.seed, self.epoch, index])
            if rng.random() < config.mix_share:
                faces, wanted = mixed(faces, wanted, mixup=config.mixup, cutmix=config.cutmix, rng=rng)
            return faces, wanted

        def shuffle(self, epoch: int) -> None:
            self.epoch = epoch
            self.order = np.random.default_rng([config.seed, epoch]).permutation(len(images))

    return Batches()
