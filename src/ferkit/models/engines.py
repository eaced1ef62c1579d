"""Runtimes: ONNX Runtime, Keras, LiteRT. Each is imported when a network is opened with it."""

import importlib
import importlib.util
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.parallel import onnx_options
from ferkit.errors import MissingDependencyError, ModelError, lacks_memory
from ferkit.models import model_files
from ferkit.models.inspection import check_file_size, refuse_operators

Probabilities = npt.NDArray[np.float32]

# A network in any runtime: float32 or uint8 pixels 0..255 (N, height, width, channels) -> (N, classes).
Network = Callable[[npt.NDArray[np.uint8]], Probabilities]


@dataclass(frozen=True)
class OpenedFile:
    """A single-file model, opened.

    Attributes:
        network: The network.
        shape: Height, width and channels of its faces; None where any value is accepted.
        outputs: Number of outputs per face, if fixed.
        card: The validated card inside the file, or None.
    """

    network: Network
    shape: tuple[int | None, int | None, int | None]
    outputs: int | None
    card: dict[str, Any] | None


def open_file(path: Path, threads: int | None = None) -> OpenedFile:
    """Open a bare `.onnx`, `.tflite`, `.keras` or `.h5` file; else a `ModelError`."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _open_onnx(path, threads)
    if suffix == ".tflite":
        return _open_litert(path, threads)
    if suffix in model_files.KERAS_SUFFIXES:
        return _open_keras_file(path)
    raise ModelError(
        f"{path} is not a model that ferkit reads. Expected a model folder, {', '.join(model_files.SUFFIXES)}."
    )


def onnx_network(path: Path, threads: int | None = None) -> Network:
    """Run a serving copy with ONNX Runtime on the CPU, with this many threads (None: one per core)."""
    return _run_onnx(_onnx_session(path, threads), path)


@dataclass(frozen=True)
class KerasNetwork:
    """Runs a `keras.Model`; `scale` multiplies the pixels 0..255, for networks without a scaling layer."""

    model: Any
    scale: float = 1.0

    def __call__(self, faces: npt.NDArray[np.uint8]) -> Probabilities:
        return np.asarray(self.model.predict_on_batch(faces.astype(np.float32) * np.float32(self.scale)), np.float32)


def keras_network(model: Any) -> KerasNetwork:
    """Run a `keras.Model` that takes pixels 0..255."""
    return KerasNetwork(model)


def open_keras(path: Path) -> Any:
    """Load a `.keras` or `.h5` file as a `keras.Model`. Raises `ModelError` if it contains code or cannot be read."""
    from ferkit._support.keras_backend import load_keras

    model_files.refuse_code(path)
    keras = load_keras()
    try:
        # Safe mode is Keras' default; it is written out because nothing else may ever stand here.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as problem:  # layers raise nearly anything for invalid values
        first = str(problem).strip().split("\n")[0]
        raise ModelError(f"Keras cannot load {path}: {first or type(problem).__name__}") from problem


def _open_keras_file(path: Path) -> OpenedFile:
    model = open_keras(path)
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in (1, 3):
        raise ModelError(f"{path} must take pictures (N, height, width, 1 or 3). Received: {shape}.")
    card = model_files.embedded_card(path)
    scale = _usual_scale(model) if card is None else float(card.get("pixel_scale", 1.0))
    return OpenedFile(KerasNetwork(model, scale), shape[1:], model.output_shape[-1], card)


def _usual_scale(model: Any) -> float:
    """1 / 255, as in the tutorial, unless there is a scaling layer inside."""
    scaled_inside = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    return 1.0 if scaled_inside else 1 / 255


def _onnx_session(path: Path, threads: int | None) -> Any:
    import onnxruntime

    model_files.refuse_data_outside(path)
    options = onnx_options(threads)
    if _eight_bits_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # ONNX Runtime's errors share no base but Exception
        if lacks_memory(problem):
            raise MemoryError(str(problem)) from problem
        raise ModelError(f"{path} is not a network that ONNX Runtime can run.") from problem


def _eight_bits_overflow() -> bool:
    """Whether sums of int8 products may overflow: on x86 with AVX2 and without VNNI, as far as Linux reports.

    ONNX Runtime then has a slower, exact mode, which would halve the speed elsewhere.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx2" in flags and "vnni" not in flags


def _run_onnx(session: Any, path: Path) -> Network:
    entry = _ends(session, path)[0][0]
    takes_bytes = entry.type == "tensor(uint8)"

    def run(faces: npt.NDArray[np.uint8]) -> Probabilities:
        pixels = faces if takes_bytes else faces.astype(np.float32)
        try:
            result = session.run(None, {entry.name: pixels})[0]
        except Exception as problem:
            raise ModelError(f"{path} takes {entry.type} {entry.shape}. Received: {pixels.shape}.") from problem
        if not isinstance(result, np.ndarray) or result.dtype.kind not in "fiu":
            raise ModelError(f"{path} must give an array of numbers. Received: {type(result).__name__}.")
        return result

    return run


@dataclass(frozen=True)
class _End:
    """An input or output of a network, as ONNX Runtime describes it; the shape is empty where there is none."""

    name: str
    type: str
    shape: list[Any]


def _ends(session: Any, path: Path) -> tuple[list[_End], list[_End]]:
    try:
        inputs, outputs = (
            [_End(one.name, one.type, one.shape or []) for one in ends]
            for ends in (session.get_inputs(), session.get_outputs())
        )
    except UnicodeDecodeError as problem:
        raise ModelError(f"{path} is damaged: its inputs and outputs have no names ({problem}).") from problem
    if not inputs or not outputs:
        raise ModelError(f"{path} takes {len(inputs)} inputs and gives {len(outputs)} outputs. Expected one of each.")
    return inputs, outputs


def _open_onnx(path: Path, threads: int | None) -> OpenedFile:
    session = _onnx_session(path, threads)
    inputs, outputs = _ends(session, path)
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        found = f"{[one.shape for one in inputs]} and {[one.shape for one in outputs]}"
        raise ModelError(f"{path} must take (N, height, width, channels) and give (N, classes). Received: {found}.")
    try:
        text = session.get_modelmeta().custom_metadata_map.get(model_files.CARD_KEY)
    except UnicodeDecodeError as problem:
        raise ModelError(f"{path} is damaged: its card cannot be read ({problem}).") from problem
    height, width, channels = (side if isinstance(side, int) else None for side in inputs[0].shape[1:])
    classes = outputs[0].shape[1]
    return OpenedFile(
        _run_onnx(session, path),
        (height, width, channels),
        classes if isinstance(classes, int) else None,
        None if text is None else model_files.parse_card(text, path),
    )


def litert_network(path: Path, threads: int | None = None) -> Network:
    """Run a `.tflite` file with LiteRT, or with the interpreter inside TensorFlow."""
    return _run_litert(_litert_interpreter(path, threads), path)


def _litert_interpreter(path: Path, threads: int | None) -> Any:
    create = _litert()
    check_file_size(path)
    data = path.read_bytes()
    refuse_operators(path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # TensorFlow's says that LiteRT is to be taken
        try:
            # Bytes are verified before they are believed, which a path is not by TensorFlow's interpreter.
            return create(model_content=data, num_threads=threads)
        except (ValueError, RuntimeError) as problem:
            raise ModelError(f"{path} is not a network that LiteRT can run.") from problem


def _litert() -> Any:
    if importlib.util.find_spec("ai_edge_litert"):
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    if importlib.util.find_spec("tensorflow"):
        return importlib.import_module("tensorflow").lite.Interpreter
    raise MissingDependencyError("Running a .tflite file needs LiteRT: pip install ai-edge-litert.")


def _run_litert(interpreter: Any, path: Path) -> Network:
    (entry, *_), (result, *_) = _litert_ends(interpreter, path)
    one_at_a_time = threading.Lock()  # an interpreter holds its faces and answers in itself

    def run(faces: npt.NDArray[np.uint8]) -> Probabilities:
        pixels = faces.astype(entry["dtype"], copy=False)
        with one_at_a_time:
            try:
                if tuple(interpreter.get_input_details()[0]["shape"]) != pixels.shape:
                    interpreter.resize_tensor_input(entry["index"], pixels.shape)
                interpreter.allocate_tensors()
                interpreter.set_tensor(entry["index"], pixels)
                interpreter.invoke()
                return np.asarray(interpreter.get_tensor(result["index"]), np.float32)
            except (ValueError, TypeError, RuntimeError) as problem:
                shape = entry["shape_signature"].tolist()
                raise ModelError(
                    f"{path} takes {entry['dtype'].__name__} {shape}. Received: {pixels.shape}."
                ) from problem

    return run


def _litert_ends(interpreter: Any, path: Path) -> tuple[list[Any], list[Any]]:
    try:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as problem:
        raise ModelError(f"{path} is damaged: its inputs and outputs have no names ({problem}).") from problem
    if not inputs or not outputs:
        raise ModelError(f"{path} takes {len(inputs)} inputs and gives {len(outputs)} outputs. Expected one of each.")
    return inputs, outputs


def _open_litert(path: Path, threads: int | None) -> OpenedFile:
    interpreter = _litert_interpreter(path, threads)
    inputs, outputs = _litert_ends(interpreter, path)
    shape, answer = inputs[0]["shape_signature"].tolist(), outputs[0]["shape_signature"].tolist()
    if len(shape) != 4 or len(answer) != 2 or len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path} must take (N, height, width, channels) and give (N, classes). Received: {shape} and {answer}."
        )
    height, width, channels = (side if side > 0 else None for side in shape[1:])
    classes = int(answer[-1])
    card = model_files.embedded_card(path)
    return OpenedFile(_run_litert(interpreter, path), (height, width, channels), classes if classes > 0 else None, card)
