"""Run by test_devices.py in a process of its own, where the processor counts as four devices: small runs on 1 and more.

Usage: devices_run.py FOLDER. Leaves runs under `one` and `moved`, and variables after a few steps in .npz files.
"""

import shutil
import sys
from pathlib import Path

import keras
import numpy as np

from faces import small_dataset
from ferkit._support import devices
from ferkit.errors import ModelError
from ferkit.models import exporting as export
from ferkit.models.architectures import ARCHITECTURES
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import TrainConfig
from ferkit.training.loop import train
from ferkit.training.step import batches_of, compiled_model, untrained_network

# What depends on chance, on the whole batch or on the steps before; plain SGD, for Adam makes steps out of rounding.
PLAIN = {"model": "tiny", "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.05}
EVERYTHING = {
    **PLAIN,
    "epochs": 3,
    "augmentation": Augmentation(rotation=10, zoom=0.1, flip=True, contrast=0.2, brightness=0.1, erase=0.3),
    "mixup": 0.2,
    "average": 0.7,
    "recalibrate": True,
    "focal": 1.0,
    "class_weight": 0.5,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}
METHODS = {
    "accumulate": {"accumulate": 2, "average": 0.5, "weight_decay": 0.01},
    "sharpness": {"sharpness": 0.05},
}
DATA = small_dataset(size=16)


class CutOffError(Exception):
    pass


def tiny(num_classes=7, *, input_shape, activation="gelu"):
    """Without kinks: where two pixels are equal but for rounding, a maximum would make another gradient of it."""
    layers = keras.layers
    pixels = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(6, 3, strides=3, activation="gelu")(x)
    x = layers.Dropout(0.2, noise_shape=(None, 1, 1, None))(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return keras.Model(pixels, layers.Dense(num_classes, activation="softmax", name="probabilities")(x))


def learn(out, devices, until, **options):
    """Train up to an epoch, at which the run is cut off."""

    def cut(row):
        if row["epoch"] == until:
            raise CutOffError

    try:
        train(DATA, "tutorial", out=out, quiet=True, on_epoch=cut, devices=devices, **options)
    except CutOffError:
        return
    raise AssertionError("the run ended by itself")


def take_steps(path, count, **options):
    """Four steps of training on so many devices."""
    config, faces = TrainConfig(**PLAIN, **options), DATA.train
    with devices.choose(count).scope():
        keras.utils.set_random_seed(1)
        model = compiled_model(untrained_network(faces, config), config, 4, np.ones(7, int))
        batches = batches_of(faces.images, np.eye(7, dtype=np.float32)[faces.labels], 16, config)
        logs = model.fit(batches, shuffle=False, verbose=0).history
        values = [logs["loss"], *(variable.numpy() for variable in [*model.variables, *model.optimizer.variables])]
    np.savez(path, *values)


def main(folder):
    ARCHITECTURES.register("tiny")(tiny)  # not on import: pytest looks into this file too
    one, moved = folder / "one", folder / "moved"
    learn(one, None, 1, **EVERYTHING)
    shutil.copytree(one, moved)
    learn(one, 1, 3, resume=True)
    learn(moved, 4, 2, resume=True)
    learn(moved, None, 3, resume=True)
    if keras.backend.backend() == "tensorflow":
        for name, options in METHODS.items():
            for count in (1, 2):
                take_steps(folder / f"{name}-{count}.npz", count, **options)

    def refuse(*_):
        raise ModelError("left out by the test")

    export.to_onnx = refuse
    train(DATA, out=moved, resume=True, quiet=True, devices="all")  # nothing is left to do but to write the model


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (processor,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 4)
    main(Path(sys.argv[1]))
