"""A trained network in other formats, each compared with the original before it is left on disk."""

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ferkit import model_folder
from ferkit.classifier import EmotionClassifier, keras_network, onnx_network, open_keras
from ferkit.errors import MissingDependencyError, ModelError
from ferkit.files import write_atomically
from ferkit.images import FaceInput
from ferkit.keras_backend import load_keras
from ferkit.registry import Registry

# Greatest difference of a probability between a network and its export (float32 rounding is about 1e-6).
TOLERANCE = 1e-4

Exporter = Callable[[Any, FaceInput, Path], float]
FORMATS: Registry[Exporter] = Registry("format")


@FORMATS.register("onnx")
def to_onnx(model: Any, face_input: FaceInput, path: Path) -> float:
    """ONNX for serving without Keras: uint8 faces (N, height, width, channels) in, probabilities out.

    Returns the greatest difference to the original over random faces.

    Raises:
        ModelError: the two differ by more than `TOLERANCE`; nothing is written then.
        MissingDependencyError: no TensorFlow, which the conversion goes through.
    """
    keras = load_keras()
    with write_atomically(path, ModelError) as draft:
        if keras.backend.backend() == "tensorflow":
            _write_onnx(model, face_input, draft)
        else:
            _write_onnx_elsewhere(model, draft)
        return _compare(keras_network(model), onnx_network(draft), face_input, path)


@FORMATS.register("keras")
def to_keras(model: Any, face_input: FaceInput, path: Path) -> float:
    """Keras' own format: architecture and weights, no optimizer state."""
    return _save_with_keras(model, face_input, path)


@FORMATS.register("h5")
def to_h5(model: Any, face_input: FaceInput, path: Path) -> float:
    """The older HDF5 file that Keras still reads, as the tutorial writes it; scaling stays inside."""
    return _save_with_keras(model, face_input, path)


def export(model: str | Path, path: Path, format_name: str) -> float:
    """Write a stored model in another format; returns the greatest difference of a probability, at most `TOLERANCE`.

    Raises:
        UsageError: no such format. ModelError: the model cannot be read, or the export differs.
    """
    write = FORMATS[format_name]
    classifier = EmotionClassifier.load(model, engine="keras")
    return write(open_network(model), classifier.face_input, path)


def open_network(model: str | Path) -> Any:
    """The plain `keras.Model` of a model folder or file."""
    path = model_folder.find(model)
    if path.is_dir():
        path = model_folder.check_sum(path, model_folder.KERAS_FILE, model_folder.read_card(path))
    return open_keras(path)


def _save_with_keras(model: Any, face_input: FaceInput, path: Path) -> float:
    with write_atomically(path, ModelError) as draft:
        model.save(draft)
        copy = load_keras().saving.load_model(draft, compile=False, safe_mode=True)
        return _compare(keras_network(model), keras_network(copy), face_input, path)


def _compare(original: Any, exported: Any, face_input: FaceInput, path: Path) -> float:
    # Noise at three sizes of detail: flat, blurred and fine faces reach different parts of the activations.
    rng = np.random.default_rng(0)
    shape = (face_input.height, face_input.width, face_input.channels)
    fine = rng.integers(0, 256, (16, *shape), dtype=np.uint8)
    coarse = rng.integers(0, 256, (16, 6, 6, shape[2]), dtype=np.uint8)
    coarse = coarse.repeat(-(-shape[0] // 6), axis=1).repeat(-(-shape[1] // 6), axis=2)[:, : shape[0], : shape[1]]
    flat = np.broadcast_to(np.arange(0, 256, 16, dtype=np.uint8).reshape(-1, 1, 1, 1), (16, *shape))
    faces = np.concatenate([fine, coarse, flat])
    difference = float(np.abs(original(faces) - exported(faces)).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path} would differ from its original by {difference:.2g} (at most {TOLERANCE:g}); not written."
        )
    return difference


def _write_onnx(model: Any, face_input: FaceInput, path: Path) -> None:
    keras = load_keras()
    try:
        import tf2onnx  # noqa: F401
    except ImportError as problem:
        raise MissingDependencyError("Writing ONNX needs tf2onnx: pip install 'ferkit[train]'.") from problem
    shape = (None, face_input.height, face_input.width, face_input.channels)
    faces = keras.Input(shape[1:], dtype="uint8", name="faces")
    # A wrapper that takes bytes: pictures are bytes, and a quarter of the data crosses into the runtime.
    serving = keras.Model(faces, model(keras.ops.cast(faces, "float32")))
    signature = [keras.InputSpec(shape=shape, dtype="uint8", name="faces")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Keras' own code against NumPy 2
        try:
            serving.export(str(path), format="onnx", verbose=False, input_signature=signature)
        except OSError:
            raise
        except Exception as problem:  # three libraries' converters, each with errors of its own
            first = str(problem).strip().split("\n")[0]
            raise ModelError(f"The network {model.name!r} cannot be written as ONNX: {first}") from problem


def _write_onnx_elsewhere(model: Any, path: Path) -> None:
    """Convert in a process of its own on TensorFlow: from other backends Keras has no direct way to ONNX."""
    if not all(map(importlib.util.find_spec, ("tensorflow", "tf2onnx"))):
        raise MissingDependencyError("Writing ONNX needs TensorFlow and tf2onnx: pip install 'ferkit[train]'.")
    keras_file = path.with_suffix(".keras")
    try:
        model.save(keras_file)
        command = [sys.executable, "-m", "ferkit.export", str(keras_file), str(path)]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise MissingDependencyError(f"TensorFlow could not write {path.name} ({last}).")
    finally:
        keras_file.unlink(missing_ok=True)


if __name__ == "__main__":
    _network = load_keras().saving.load_model(sys.argv[1], compile=False, safe_mode=True)
    _, _height, _width, _channels = _network.input_shape
    _write_onnx(_network, FaceInput(_height, _width, _channels), Path(sys.argv[2]))
