"""Where the time of training goes, and how far it is from what the machine can do.

The parts of a step are run on their own, in turns, and stand beside the whole step as `train` takes it; then TensorFlow's
profiler says by which kinds of operations. Times are medians, of processor and of the clock.

    python benchmarks/profile_training.py            # prints
"""

import argparse
import collections
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from ferkit.data.loading import load_dataset
from ferkit.data.records import FaceSet
from ferkit.labels import EMOTIONS
from ferkit.models.architectures import multiply_adds
from ferkit.models.layers import recalibrate_normalization, use_fused_normalization
from ferkit.training import run_folder as checkpoints
from ferkit.training.augmentation import augmenter
from ferkit.training.config import RECIPES, TrainConfig
from ferkit.training.step import averaged, batches_of, compiled_model, untrained_network
from ferkit.training.targets import training_targets
from machine_limits import Limits, Meter, about_machine

# An epoch of FER-2013: faces that are trained on, and held out.
TRAINED, HELD_OUT = 28_709, 3_589
# Kinds of operations by words in their names; the first that fits counts.
KINDS = {
    "gradients of kernels": ("BackpropFilter", "filter_grad", "Conv2DBackpropFilterWithBias"),
    "gradients of inputs": ("BackpropInput",),
    "convolutions": ("Conv2D", "_FusedConv"),
    "dense layers": ("MatMul",),
    "normalisation": ("BatchNorm",),
    "pooling": ("Pool",),
    "chance": ("Random", "Stateless"),
    "geometry": ("ImageProjective", "Gather", "ResourceGather"),
    "sums and means": ("Sum", "Mean", "Reduce", "BiasAdd"),
    "optimizer and averages": ("Assign", "Apply", "ReadVariable"),
}
ELEMENTWISE = "element by element, and all else"


@dataclass(frozen=True)
class Cost:
    """Seconds of one call: of processor, over all threads, and of the clock."""

    processor: float
    clock: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.processor - other.processor, self.clock - other.clock)


class Part:
    """Something that is timed, a few calls at a time."""

    def __init__(self, work: Callable[[], object], calls: int = 10) -> None:
        self.work, self.calls = work, calls
        self._costs: list[Cost] = []
        work()  # compilation and first touch of memory

    def time(self) -> None:
        processor, clock = time.process_time(), time.perf_counter()
        for _ in range(self.calls):
            self.work()
        self._costs.append(
            Cost((time.process_time() - processor) / self.calls, (time.perf_counter() - clock) / self.calls)
        )

    @property
    def cost(self) -> Cost:
        return Cost(
            statistics.median(one.processor for one in self._costs), statistics.median(one.clock for one in self._costs)
        )


class Workshop:
    """A recipe's step and its parts on one batch.

    faces: whose first rows are the batch.
    """

    def __init__(self, config: TrainConfig, faces: FaceSet) -> None:
        self.config, self.faces = config, faces
        keras.utils.set_random_seed(config.seed)
        counts = np.bincount(faces.labels, minlength=len(faces.classes))
        self.network = untrained_network(faces, config)
        steps = len(faces) // config.batch_size
        self.model = compiled_model(self.network, config, steps, counts)
        targets, size = training_targets(faces, config), config.batch_size
        self.batches = batches_of(faces.images, targets, size, config)
        self.first = batches_of(faces.images[:size], targets[:size], size, config)
        self.folder = tempfile.TemporaryDirectory()

    def parts(self) -> dict[str, Part]:
        """The parts of a step; `epoch` is the whole of it, Keras' loop included, and `one step` an epoch of one."""
        steps = len(self.batches)
        pixels, targets = (tf.constant(one) for one in self.batches[0])
        varied = tf.cast(pixels, tf.float32)
        augment = augmenter(self.config.augmentation, self.config.seed)
        network = untrained_network(self.faces, self.config)
        use_fused_normalization(network)
        weights = network.trainable_variables
        slopes = [tf.random.normal(one.shape, stddev=1e-3) for one in weights]

        forward = tf.function(lambda: tf.reduce_sum(network(varied, training=True)))

        def both() -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(keras.losses.categorical_crossentropy(targets, network(varied, training=True)))
            # Summed up, or TensorFlow would leave out what nobody asks for.
            return [tf.reduce_sum(one) for one in tape.gradient(loss, weights)]

        def optimizer(average: float) -> Callable[[], object]:
            model = compiled_model(
                network, self.config.changed(average=average), steps, np.ones(len(self.faces.classes), int)
            )
            step: Callable[[], object] = tf.function(lambda: model.optimizer.apply(slopes, weights))
            return step

        drawn = iter(range(10**9))
        return {
            "data supply": Part(lambda: self.batches[next(drawn) % steps]),
            "augmentation": Part(tf.function(lambda: tf.reduce_sum(augment(pixels, training=True)))),
            "forward": Part(forward),
            "both": Part(tf.function(both)),
            "optimizer": Part(optimizer(0.0)),
            "averaging": Part(optimizer(self.config.average)),
            "epoch": Part(lambda: self.model.fit(self.batches, shuffle=False, verbose=0), calls=1),
            "one step": Part(lambda: self.model.fit(self.first, shuffle=False, verbose=0), calls=1),
            "validation": Part(self.validate, calls=1),
            "statistics": Part(lambda: recalibrate_normalization(self.network, self.faces.images), calls=1),
            "checkpoint": Part(self.keep, calls=1),
        }

    def validate(self) -> None:
        with averaged(self.model):
            self.model.evaluate(self.faces.images, self.batches_targets(), batch_size=256, verbose=0)

    def batches_targets(self) -> Any:
        return training_targets(self.faces, self.config)

    def keep(self) -> None:
        checkpoints.save(checkpoints.take(self.model, []), Path(self.folder.name) / "last.npz")

    def moved(self) -> float:
        """Bytes that a step moves if every layer's answer is written once and read once, forward and twice back."""
        width = 2 if self.config.precision == "bfloat16" else 4
        numbers = sum(
            math.prod(layer.output.shape[1:]) for layer in self.network._flatten_layers() if hasattr(layer, "output")
        )
        return 3 * 2 * width * float(numbers) * self.config.batch_size


def operations(workshop: Workshop) -> list[tuple[str, float]]:
    """Share of each kind of operation in the time that threads spend in an epoch, from TensorFlow's profiler."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        workshop.model.fit(workshop.batches, shuffle=False, verbose=0)
        tf.profiler.experimental.stop()
        spent: collections.Counter[str] = collections.Counter()
        for name, picoseconds in _events(Path(folder)):
            kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), ELEMENTWISE)
            spent[kind] += picoseconds
    total = sum(spent.values())
    return [(kind, value / total) for kind, value in spent.most_common()]


def _events(folder: Path) -> Iterator[tuple[str, int]]:
    """Operations that the profiler saw: type, picoseconds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            names = {number: one.name for number, one in plane.event_metadata.items()}
            for event in (event for line in plane.lines for event in line.events):
                # Operations are called path/of/the/operation:Type; all else are spans around them.
                path_of, _, kind = names[event.metadata_id].rpartition(":")
                if "/" in path_of and " " not in path_of:
                    yield kind, event.duration_ps


def account(config: TrainConfig, costs: dict[str, Cost], faces: int, steps: int) -> list[tuple[str, Cost]]:
    """An epoch of FER-2013 in its parts. faces, steps: of the epoch that was timed."""
    per_step = step_of(costs, steps)
    inside = {
        "forward": costs["forward"],
        "backward": costs["both"] - costs["forward"],
        "augmentation": costs["augmentation"],
        "optimizer": costs["optimizer"],
        "data supply": costs["data supply"],
    }
    if config.average:
        inside["running average"] = costs["averaging"] - costs["optimizer"]
    rest = per_step
    for one in inside.values():
        rest = rest - one
    whole = TRAINED // config.batch_size
    rows = [(name, _times(cost, whole)) for name, cost in {**inside, "Keras' loop and the rest": rest}.items()]
    rows.append(("start of the epoch", costs["one step"] - per_step))
    rows.append(("validation", _times(costs["validation"], HELD_OUT / faces)))
    if config.recalibrate:
        rows.append(("statistics taken anew", costs["statistics"]))
    return [*rows, ("checkpoint", costs["checkpoint"])]


def step_of(costs: dict[str, Cost], steps: int) -> Cost:
    """A step as `fit` takes it, without what it does at the start of an epoch."""
    return _times(costs["epoch"] - costs["one step"], 1 / (steps - 1))


def _times(cost: Cost, factor: float) -> Cost:
    return Cost(cost.processor * factor, cost.clock * factor)


def report(workshop: Workshop, costs: dict[str, Cost], limits: Limits) -> list[str]:
    config, steps = workshop.config, len(workshop.batches)
    rows = account(config, costs, len(workshop.faces), steps)
    total = Cost(sum(cost.processor for _, cost in rows), sum(cost.clock for _, cost in rows))
    text = [
        f"### `{config.model}` in {config.precision}, batches of {config.batch_size}",
        "",
        "| part of an epoch of FER-2013 | s of processor | share | s by the clock |",
        "|---|---|---|---|",
    ]
    text += [
        f"| {name} | {cost.processor:.2f} | {cost.processor / total.processor:.1%} | {cost.clock:.2f} |"
        for name, cost in (*rows, ("sum", total))
    ]
    work = multiply_adds(workshop.network) * 2.0 * config.batch_size
    text += ["", "| | GFLOP | ms by the clock | GFLOP/s | of the peak |", "|---|---|---|---|---|"]
    for name, cost, factor in (
        ("forward", costs["forward"], 1),
        ("backward", costs["both"] - costs["forward"], 2),
        ("step", step_of(costs, steps), 3),
    ):
        rate = factor * work / cost.clock
        text.append(
            f"| {name} | {factor * work / 1e9:.1f} | {1000 * cost.clock:.1f} | {rate / 1e9:,.0f} "
            f"| {rate / limits.flops[config.precision]:.0%} |"
        )
    arithmetic, memory = limits.least(3 * work, workshop.moved(), config.precision)
    text += [
        "",
        f"Arithmetic alone would take {1000 * arithmetic:.1f} ms of a step, memory alone {1000 * memory:.1f} ms where no two "
        f"layers are fused; the step takes {1000 * step_of(costs, steps).clock:.1f} ms.",
        "",
        "| kind of operation | share of the threads' time in a step |",
        "|---|---|",
    ]
    return [*text, *(f"| {kind} | {share:.1%} |" for kind, share in operations(workshop)), ""]


def synthetic(count: int) -> FaceSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 48, 48, 1), dtype=np.uint8)
    return FaceSet(images, rng.integers(0, 7, count), EMOTIONS, "Training")


def profile(configs: Sequence[TrainConfig], faces: FaceSet, rounds: int) -> list[str]:
    """The page's lines; parts of all configs take turns."""
    meter = Meter()
    workshops = [Workshop(config, faces) for config in configs]
    parts = [one.parts() for one in workshops]
    for _ in range(rounds):
        meter.measure()
        for one in parts:
            for part in one.values():
                part.time()
    limits = meter.limits
    text = ["; ".join(limits.lines()) + ".", ""]
    for workshop, one in zip(workshops, parts, strict=True):
        text += report(workshop, {name: part.cost for name, part in one.items()}, limits)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a data set that ferkit reads; default: synthetic faces, which take as long")
    parser.add_argument("--recipe", default="strong", help="default: %(default)s")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], help="default: %(default)s")
    parser.add_argument(
        "--faces", type=int, default=2560, help="faces of the epochs that are timed; default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    if keras.backend.backend() != "tensorflow":
        parser.error("this profile is of TensorFlow; KERAS_BACKEND says otherwise.")

    faces = load_dataset(options.data).train if options.data else synthetic(options.faces)
    faces = faces.select(np.arange(min(options.faces, len(faces))))
    if len(faces) < 2 * RECIPES[options.recipe].config.batch_size:
        parser.error("--faces must be two batches at least.")
    configs = [RECIPES[options.recipe].config.changed(precision=one) for one in options.precision]
    words = f"python benchmarks/profile_training.py --recipe {options.recipe} --precision {' '.join(options.precision)}"
    about = (
        f"`{words} --faces {len(faces)} --rounds {options.rounds}` on {about_machine()}, TensorFlow {tf.__version__}."
    )
    print("\n".join([about, "", *profile(configs, faces, options.rounds)]))


if __name__ == "__main__":
    main()
