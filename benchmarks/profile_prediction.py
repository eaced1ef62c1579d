"""Where the time of recognition goes between a file and its row, and how far it is from what the machine can do.

The stages are those of `end_to_end.py --stages`, of processor, one after another; detection is split into its network and
what is around it. Both networks' operations are counted, and their rates stand against products of matrices measured in
the same run. It needs the extra `train`: the products are TensorFlow's, the count is made on the ONNX graph.

    python benchmarks/profile_prediction.py SCENES --yunet FILE            # prints
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import onnxruntime

from ferkit._support.parallel import usable_cores
from ferkit.detection.yunet import YunetDetector
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.model_folder import find as find_model
from ferkit.models.model_folder import read_card
from ferkit.sources.images import read_image
from machine_limits import Limits, Meter, about_machine
from picture_stages import ALWAYS, enlarged, one_pass

STILL = (".jpg", ".jpeg", ".png")
BATCHES = (1, 8, 64)


class Watched:
    """A detector's session that notes its seconds of processor and of the clock, and the pixels that it saw."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.clear()

    def clear(self) -> None:
        self.processor = self.clock = 0.0
        self.pixels = 0

    def get_outputs(self) -> Any:
        return self.session.get_outputs()

    def run(self, names: Any, values: dict[str, Any]) -> Any:
        processor, clock = time.process_time(), time.perf_counter()
        answers = self.session.run(names, values)
        self.processor += time.process_time() - processor
        self.clock += time.perf_counter() - clock
        self.pixels += math.prod(values["input"].shape[2:])
        return answers


@dataclass
class Stages:
    """One kind of pictures: seconds of processor of each pass, by stage.

    network_clock, network_pixels: of the detector's network in each pass.
    """

    title: str
    pictures: Sequence[Path]
    passes: list[dict[str, float]] = field(default_factory=list)
    network_clock: list[float] = field(default_factory=list)
    network_pixels: int = 0

    def take(self, find: YunetDetector, watched: Watched, classifier: EmotionClassifier, folder: Path) -> None:
        watched.clear()
        seconds = one_pass(self.pictures, find, classifier, folder)
        shares = {stage: seconds[stage] for stage in ALWAYS}
        shares["network of the detector"] = watched.processor
        shares["detect"] -= watched.processor
        self.passes.append(shares)
        self.network_clock.append(watched.clock)
        self.network_pixels = watched.pixels

    def lines(self, limits: Limits) -> list[str]:
        cost = {
            stage: 1000 * statistics.median(one[stage] for one in self.passes) / len(self.pictures)
            for stage in self.passes[0]
        }
        cost = dict(sorted(cost.items(), key=lambda item: -item[1]))
        names = {
            "detect": "around it: views, boxes",
            "csv": "rows",
            "crop": "cutting",
            "classify": "network of emotions",
        }
        shapes = [read_image(one).shape for one in self.pictures]
        written = sum(math.prod(shape) for shape in shapes) / len(shapes)
        text = [f"### {self.title}", "", "| stage | ms of processor a picture | share |", "|---|---|---|"]
        text += [
            f"| {names.get(name, name)} | {one:.2f} | {one / sum(cost.values()):.1%} |" for name, one in cost.items()
        ]
        least = 1000 * written / limits.bandwidth
        return [
            *text,
            f"| sum | {sum(cost.values()):.2f} | |",
            "",
            f"Writing the {written / 1e6:.1f} MB of a decoded picture to memory alone would take {least:.2f} ms.",
            "",
        ]


def products_of(path: Path) -> float:
    """Multiply-adds a pixel of a network of convolutions, from its ONNX graph with the size that it declares."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*graph.value_info, *graph.input, *graph.output)
    }
    kernels = {one.name: list(one.dims) for one in graph.initializer}
    total = sum(
        math.prod(shapes[node.output[0]][1:]) * math.prod(kernels[node.input[1]][1:])
        for node in graph.node
        if node.op_type == "Conv"
    )
    return float(total / math.prod(shapes["input"][2:]))


def emotions(classifier: EmotionClassifier, multiply_adds: int, meter: Meter, rounds: int) -> list[tuple[int, float]]:
    """Faces in a batch, and operations per second by the clock of what a program calls: checks and temperature included."""
    shape = classifier.face_input
    rng = np.random.default_rng(0)
    speeds: dict[int, list[float]] = {size: [] for size in BATCHES}
    for number in range(rounds + 1):
        meter.measure()
        for size in BATCHES:
            faces = rng.integers(0, 256, (size, shape.height, shape.width, shape.channels), dtype=np.uint8)
            calls = max(64 // size, 1)
            started = time.perf_counter()
            for _ in range(calls):
                classifier.predict_proba(faces)
            if number:  # the first round warms up
                speeds[size].append(2.0 * multiply_adds * size * calls / (time.perf_counter() - started))
    return [(size, statistics.median(one)) for size, one in speeds.items()]


def profile(scenes: Sequence[Path], yunet: Path, rounds: int) -> list[str]:
    classifier = EmotionClassifier.load("default", engine="onnx")
    multiply_adds = int(read_card(find_model("default"))["multiply_adds"])
    find, meter = YunetDetector(), Meter()
    watched = Watched(find._network)
    find._network = watched
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = [
            Stages("Scenes as they are", scenes),
            Stages("Scenes of 12 megapixels, as phones take them", enlarged(scenes, folder)),
        ]
        for number in range(rounds + 1):
            meter.measure()
            for kind in kinds:
                kind.take(find, watched, classifier, folder)
                if not number:  # the first pass warms up
                    kind.passes.clear()
                    kind.network_clock.clear()
        rates = emotions(classifier, multiply_adds, meter, rounds)
        limits = meter.limits
        text = ["; ".join(limits.lines()) + ".", ""]
        for kind in kinds:
            text += kind.lines(limits)
    peak = limits.flops["float32"]
    a_pixel = products_of(yunet)
    text += [
        "### Networks",
        "",
        "| network | million multiply-adds | GFLOP/s | of the float32 peak |",
        "|---|---|---|---|",
    ]
    for kind in kinds:
        work = a_pixel * kind.network_pixels
        rate = 2 * work / statistics.median(kind.network_clock)
        text.append(
            f"| faces, {kind.title.lower()} | {work / len(kind.pictures) / 1e6:,.0f} a picture "
            f"| {rate / 1e9:,.0f} | {rate / peak:.0%} |"
        )
    text += [
        f"| emotions, {size} face{'s' * (size > 1)} at once | {multiply_adds / 1e6:,.1f} a face | {rate / 1e9:,.0f} | {rate / peak:.0%} |"
        for size, rate in rates
    ]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="folder of pictures")
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet's weights")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    os.environ["FERKIT_OFFLINE"] = "1"
    os.environ["FERKIT_YUNET"] = str(options.yunet.resolve())
    scenes = sorted(path for path in options.scenes.iterdir() if path.suffix.lower() in STILL)
    cv2.setNumThreads(usable_cores())

    about = (
        f"`python benchmarks/profile_prediction.py SCENES --yunet FILE --rounds {options.rounds}` ({len(scenes)} pictures) on "
        f"{about_machine()}, ONNX Runtime {onnxruntime.__version__}."
    )
    print("\n".join([about, "", *profile(scenes, options.yunet, options.rounds)]))


if __name__ == "__main__":
    main()
