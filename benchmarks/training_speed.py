"""Faces per second of training: ours with and without augmentation, and the tutorial's own way, in one run.

The same network, optimizer, batch size, faces and machine. The tutorial's way is its `ImageDataGenerator`, which
today's Keras keeps under `keras.src.legacy`. Contenders take turns for several rounds, so that a noisy machine
disturbs all of them alike. Printed are medians of faces per second, processor time per face (which neighbours on the
machine disturb least), and the share of the machine's float32 matrix-multiply peak.

    python benchmarks/training_speed.py                 # synthetic faces
    python benchmarks/training_speed.py --data fer2013.csv.gz
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import numpy.typing as npt

from _shared import PEAK_SIDE, matmul_peak, options_of, spread, take_turns
from ferkit.data.loading import load_dataset
from ferkit.data.records import FaceSet
from ferkit.labels import EMOTIONS
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import RECIPES
from ferkit.training.step import batches_of, compiled_model, untrained_network
from ferkit.training.targets import training_targets

# Multiply-adds of one forward pass; training costs about three of them (forward, two gradients), two operations each.
MULTIPLY_ADDS = 22_487_936
OPERATIONS_PER_FACE = MULTIPLY_ADDS * 2 * 3
BATCH = 64

PLAIN = "ferkit float32, no augmentation"
FLOAT32 = "ferkit float32"
BFLOAT16 = "ferkit bfloat16"
TUTORIAL = "the tutorial's ImageDataGenerator"
PEAK = "float32 matrix-multiply peak"

Contender = Callable[[], object]


def ours(faces: FaceSet, augmentation: Augmentation, precision: str = "float32") -> Contender:
    config = RECIPES["tutorial"].config.changed(augmentation=augmentation, precision=precision)
    steps = len(faces) // config.batch_size
    model = compiled_model(untrained_network(faces, config), config, steps, np.bincount(faces.labels))
    batches = batches_of([faces.images], [training_targets(faces, config)], config.batch_size, config)

    return lambda: model.fit(batches, epochs=1, shuffle=False, verbose=0)


def tutorials(faces: FaceSet) -> Contender:
    """The tutorial's script: scaled floats, ImageDataGenerator, `fit` on its flow."""
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    layers = keras.layers
    model = keras.Sequential([keras.Input((48, 48, 1))])
    for filters in (32, 64, 128):
        model.add(layers.Conv2D(filters, (3, 3), padding="same"))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.MaxPooling2D(pool_size=(2, 2)))
        model.add(layers.Dropout(0.25))
    for layer in (layers.Flatten(), layers.Dense(128), layers.BatchNormalization(), layers.Activation("relu")):
        model.add(layer)
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(7, activation="softmax"))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="categorical_crossentropy", metrics=["accuracy"])

    pixels = faces.images.astype("float32") / 255.0
    targets = keras.utils.to_categorical(faces.labels, 7)
    generator = ImageDataGenerator(
        rotation_range=30, shear_range=0.2, zoom_range=0.2, horizontal_flip=True, fill_mode="nearest"
    )
    flow = generator.flow(pixels, targets, batch_size=BATCH)
    return lambda: model.fit(flow, steps_per_epoch=len(pixels) // BATCH, epochs=1, verbose=0)


def product() -> Contender:
    """A float32 product of two matrices on Keras' own backend."""
    left, right = (keras.random.normal((PEAK_SIDE, PEAK_SIDE), seed=seed) for seed in (0, 1))
    return lambda: keras.ops.convert_to_numpy(keras.ops.matmul(left, right)[0, 0])


def synthetic(n: int) -> FaceSet:
    rng = np.random.default_rng(0)
    images: npt.NDArray[np.uint8] = rng.integers(0, 256, (n, 48, 48, 1), dtype=np.uint8)
    return FaceSet(images, rng.integers(0, 7, n), EMOTIONS, "Training")


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--data", help="a data set that ferkit reads; default: synthetic faces")
    parser.add_argument("--faces", type=int, default=3200, help="faces per epoch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs per contender (default: %(default)s)")
    options = parser.parse_args()

    faces = load_dataset(options.data).train if options.data else synthetic(options.faces)
    faces = faces.select(np.arange(min(options.faces, len(faces))))
    recipe: Any = RECIPES["tutorial"].config
    contenders: dict[str, Contender] = {
        PLAIN: ours(faces, Augmentation()),
        FLOAT32: ours(faces, recipe.augmentation),
        BFLOAT16: ours(faces, recipe.augmentation, "bfloat16"),
        TUTORIAL: tutorials(faces),
    }
    print(
        f"Keras {keras.__version__} on {keras.backend.backend()}, {os.cpu_count()} cores, {len(faces)} faces an epoch"
    )
    trained = len(faces) // BATCH * BATCH
    peaks: list[float] = []
    measure_peak = partial(matmul_peak, product(), time.perf_counter)
    costs = take_turns({**contenders, PEAK: lambda: peaks.append(measure_peak())}, options.rounds)
    peak = max(peaks)
    speeds = {name: [trained / one.seconds for one in found] for name, found in costs.items()}
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    cost = {name: statistics.median(one.cpu / trained * 1000 for one in found) for name, found in costs.items()}
    for name in contenders:
        share = speed[name] * OPERATIONS_PER_FACE / peak
        print(
            f"{name:<36} {spread(speeds[name], ',.0f')} faces/s, {cost[name]:.2f} ms of CPU a face, "
            f"{share:.0%} of the peak"
        )
    print(f"{PEAK:<36} {peak / 1e9:>6,.0f} GFLOP/s")
    for name in (FLOAT32, BFLOAT16):
        print(
            f"{name} against the tutorial's pipeline: {speed[name] / speed[TUTORIAL]:.2f}x the faces per second, "
            f"{cost[TUTORIAL] / cost[name]:.2f}x by CPU time (wanted: at least 2)"
        )
    print(
        f"cost of data augmentation: {1 - speed[FLOAT32] / speed[PLAIN]:.1%} of the faces per second, "
        f"{cost[FLOAT32] / cost[PLAIN] - 1:.1%} by CPU time (wanted: at most 15 %)"
    )


if __name__ == "__main__":
    main()
