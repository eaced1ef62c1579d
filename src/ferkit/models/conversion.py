"""Conversion of Keras models to ONNX and LiteRT through TensorFlow: in this process, or in a new one beside JAX.

python -m ferkit.models.conversion NETWORK.keras OUT.onnx|OUT.tflite TEMPERATURE [OFFSET...]
"""

import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferkit._support.keras_backend import load_keras
from ferkit.errors import MissingDependencyError, ModelError
from ferkit.models.calibration import SMALLEST

INPUT, OUTPUT = "faces", "probabilities"

# Suffix of the file -> what Keras calls the format, what else it needs.
_KINDS = {".onnx": ("onnx", "tf2onnx"), ".tflite": ("litert", "tensorflow")}


def convert(
    model: Any,
    path: Path,
    *,
    temperature: float = 1.0,
    offsets: Sequence[float] | None = None,
) -> None:
    """Write a `keras.Model` as `.onnx` or `.tflite`: `faces`, uint8 (N, height, width, channels) -> `probabilities`.

    offsets: (classes,), taken from the log-probabilities before the temperature divides them, see
        `ferkit.models.calibration`.

    Raises:
        MissingDependencyError: no TensorFlow. ModelError: the network cannot be written in this format.
    """
    missing = [name for name in ("tensorflow", _KINDS[path.suffix][1]) if not importlib.util.find_spec(name)]
    if missing:
        names = " and ".join(dict.fromkeys(missing))
        raise MissingDependencyError(f"Writing {path.suffix} needs {names}: pip install 'ferkit[train]'.")
    if load_keras().backend.backend() == "tensorflow":
        _convert_here(model, path, temperature, offsets)
    else:
        _convert_elsewhere(model, path, temperature, offsets)


def _convert_here(model: Any, path: Path, temperature: float, offsets: Sequence[float] | None) -> None:
    keras = load_keras()
    shape = model.input_shape
    # The wrapper takes uint8: a quarter of the data enters the runtime.
    faces = keras.Input(shape[1:], dtype="uint8", name=INPUT)
    probabilities = model(keras.ops.cast(faces, "float32"))
    if temperature != 1 or offsets is not None:
        logs = keras.ops.log(keras.ops.maximum(probabilities, SMALLEST))
        logs = logs if offsets is None else logs - keras.ops.convert_to_tensor(offsets, "float32")
        probabilities = keras.ops.softmax(logs / temperature)
    serving = keras.Model(faces, {OUTPUT: probabilities})
    signature = [keras.InputSpec(shape=shape, dtype="uint8", name=INPUT)]
    # It logs a traceback for each optimization that it does without, as for MobileNetV3; what fails is raised as well.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Keras' own code against NumPy 2
        try:
            serving.export(str(path), format=_KINDS[path.suffix][0], verbose=False, input_signature=signature)
        except OSError:
            raise
        except Exception as problem:  # three libraries' converters, each with errors of its own
            first = str(problem).strip().split("\n")[0]
            raise ModelError(f"The network {model.name!r} cannot be written as {path.suffix}: {first}") from problem


def _convert_elsewhere(model: Any, path: Path, temperature: float, offsets: Sequence[float] | None) -> None:
    """Convert in a new process on TensorFlow: other backends of Keras cannot write these formats."""
    keras_file = path.with_suffix(".keras")
    try:
        model.save(keras_file)
        settings = [str(temperature), *map(str, offsets or ())]
        command = [sys.executable, "-m", "ferkit.models.conversion", str(keras_file), str(path), *settings]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise MissingDependencyError(f"TensorFlow could not write {path.name} ({last}).")
    finally:
        keras_file.unlink(missing_ok=True)


if __name__ == "__main__":
    _network = load_keras().saving.load_model(sys.argv[1], compile=False, safe_mode=True)
    _temperature, *_offsets = map(float, sys.argv[3:])
    _convert_here(_network, Path(sys.argv[2]), _temperature, _offsets or None)
