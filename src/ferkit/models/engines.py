"""Runtimes: ONNX Runtime, Keras, LiteRT. Each is imported when a network is opened with it."""

import importlib
import importlib.util
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ferkit._support.parallel import onnx_options
from ferkit.errors import MissingDependencyError, ModelError, lacks_memory
from ferkit.models import model_files
from ferkit.models.foreign import (
    AS_IT_IS,
    LOG_SOFTMAX,
    LOGITS,
    SCALES,
    SIGMOID,
    SOFTMAX,
    PixelScale,
    as_probabilities,
    outputs_by_numbers,
    unlike_faces,
)
from ferkit.models.inspection import check_file_size, refuse_operators
from ferkit.models.keras_files import KerasNetwork, open_keras, outputs_of, usual_scale

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
        usual_scale: The pixel scale that a network like this usually has.
        takes_bytes: Whether it takes uint8, so that any scaling is inside.
        kind: What its outputs are, one of `foreign.OUTPUTS`, as its last layer or operator says; None where that says
            nothing.
    """

    network: Network
    shape: tuple[int | None, int | None, int | None]
    outputs: int | None
    card: dict[str, Any] | None
    usual_scale: PixelScale = AS_IT_IS
    takes_bytes: bool = False
    kind: str | None = SOFTMAX

    def adapted(self, scale: PixelScale, kind: str) -> Network:
        """The network for pixels 0..255, with probabilities at its end."""
        if isinstance(self.network, KerasNetwork):
            return replace(self.network, scale=scale, outputs=kind)
        if scale == AS_IT_IS and kind == SOFTMAX:
            return self.network
        run = cast(Callable[[npt.NDArray[Any]], Probabilities], self.network)
        return lambda faces: as_probabilities(run(faces if scale == AS_IT_IS else scale(faces)), kind)

    def tell_kind(self, face: tuple[int, int, int], scale: PixelScale, path: Path) -> str:
        """`kind`, or what the numbers say that come for some faces (height, width, channels) in that scale."""
        if self.kind is not None:
            return self.kind
        numbers = self.adapted(scale, SOFTMAX)(unlike_faces(face))
        if numbers.ndim != 2 or not np.isfinite(numbers).all():
            raise ModelError(
                f"{path} must give finite numbers (N, classes). Received: {numbers.dtype} {numbers.shape}."
            )
        return outputs_by_numbers(numbers)


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
        + model_files.other_format(path)
    )


def onnx_network(path: Path, threads: int | None = None) -> Network:
    """Run a serving copy with ONNX Runtime on the CPU, with this many threads (None: one per core)."""
    return _run_onnx(_onnx_session(path, threads), path)


def _open_keras_file(path: Path) -> OpenedFile:
    model = open_keras(path)
    shape, result = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in (1, 3):
        raise ModelError(
            f"{path} must take pictures (N, height, width, 1 or 3). Received: {shape}.{_other_input(shape)}"
        )
    if not isinstance(result, tuple) or len(result) != 2:
        several = isinstance(result, list) and any(isinstance(one, tuple) and len(one) == 2 for one in result)
        advice = " Keep the one of the emotions: keras.Model(model.inputs, model.outputs[0])." if several else ""
        raise ModelError(f"{path} must give (N, classes). Received: {result}.{advice}")
    card = model_files.embedded_card(path)
    if card is not None:
        return OpenedFile(KerasNetwork(model), shape[1:], result[-1], card)
    return OpenedFile(
        KerasNetwork(model), shape[1:], result[-1], None, usual_scale(model), kind=outputs_of(model, path)
    )


def _other_input(shape: Any) -> str:
    """How to turn pictures into what a Keras network takes, where a layer in front of it can."""
    if not isinstance(shape, tuple) or None in shape[1:] or len(shape) not in (2, 4):
        return ""
    first = len(shape) == 4 and shape[1] in (1, 3)
    side = math.isqrt(shape[1])
    if not first and (len(shape) == 4 or side**2 != shape[1]):
        return ""
    picture = (*shape[2:], shape[1]) if first else (side, side, 1)
    layer = "Permute((3, 1, 2))" if first else "Flatten()"
    return (
        f" Put a layer in front of it and save that: keras.Sequential([keras.Input({picture}), keras.layers.{layer}, "
        "model])."
    )


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


_ONNX_PIXELS: dict[str, Any] = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def channels_first(shape: Sequence[Any]) -> bool:
    """Whether a network takes (N, channels, height, width), as PyTorch writes them."""
    return len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)


def _run_onnx(session: Any, path: Path) -> Network:
    entry = _onnx_ends(session, path)[0][0]
    dtype = _ONNX_PIXELS.get(entry.type, np.float32)
    planes = channels_first(entry.shape)
    # Some exporters fix the batch, most often to one.
    batch = entry.shape[0] if entry.shape and isinstance(entry.shape[0], int) else None

    def run(faces: npt.NDArray[np.uint8]) -> Probabilities:
        pixels = faces.astype(dtype, copy=False)
        if planes:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        try:
            if batch is None or batch == len(pixels):
                result = session.run(None, {entry.name: pixels})[0]
            else:
                filled = np.concatenate([pixels, np.zeros((-len(pixels) % batch, *pixels.shape[1:]), dtype)])
                parts = (filled[i : i + batch] for i in range(0, len(filled), batch))
                answers = [session.run(None, {entry.name: part})[0] for part in parts]
                result = np.concatenate(answers)[: len(pixels)]
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


def _ends(read: Callable[[], tuple[Sequence[Any], Sequence[Any]]], path: Path) -> tuple[list[Any], list[Any]]:
    """What a runtime says of a network's inputs and outputs: at least one of each."""
    try:
        inputs, outputs = map(list, read())
    except (ValueError, RuntimeError) as problem:
        raise ModelError(f"{path} is damaged: its inputs and outputs have no names ({problem}).") from problem
    if not inputs or not outputs:
        raise ModelError(f"{path} takes {len(inputs)} inputs and gives {len(outputs)} outputs. Expected one of each.")
    return inputs, outputs


def _onnx_ends(session: Any, path: Path) -> tuple[list[_End], list[_End]]:
    def read() -> tuple[list[_End], list[_End]]:
        sides = (session.get_inputs(), session.get_outputs())
        inputs, outputs = ([_End(one.name, one.type, one.shape or []) for one in side] for side in sides)
        return inputs, outputs

    return _ends(read, path)


def _open_onnx(path: Path, threads: int | None) -> OpenedFile:
    session = _onnx_session(path, threads)
    inputs, outputs = _onnx_ends(session, path)
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        found = f"{[one.shape for one in inputs]} and {[one.shape for one in outputs]}"
        advice = ""
        if len(inputs) == 1 and len(inputs[0].shape) == 4 and len(outputs) > 1:
            names = ", ".join(one.name for one in outputs)
            advice = (
                f" Keep the output of the emotions (of {names}): onnx.utils.extract_model({path.name!r}, 'one.onnx', "
                f"[{inputs[0].name!r}], [NAME])."
            )
        raise ModelError(
            f"{path} must take (N, height, width, channels) and give (N, classes). Received: {found}.{advice}"
        )
    try:
        text = session.get_modelmeta().custom_metadata_map.get(model_files.CARD_KEY)
    except UnicodeDecodeError as problem:
        raise ModelError(f"{path} is damaged: its card cannot be read ({problem}).") from problem
    sides = [side if isinstance(side, int) else None for side in inputs[0].shape[1:]]
    channels, height, width = sides if channels_first(inputs[0].shape) else (sides[2], *sides[:2])
    classes = outputs[0].shape[1] if isinstance(outputs[0].shape[1], int) else None
    run, takes_bytes = _run_onnx(session, path), inputs[0].type == "tensor(uint8)"
    if text is not None:
        return OpenedFile(
            run, (height, width, channels), classes, model_files.parse_card(text, path), AS_IT_IS, takes_bytes
        )
    usual = AS_IT_IS if takes_bytes else SCALES["0..1"]
    kind = _ONNX_KINDS.get(model_files.last_operator(path) or "")
    return OpenedFile(run, (height, width, channels), classes, None, usual, takes_bytes, kind)


# What the last operator of a graph says; others may be any part of a softmax that was written out.
_ONNX_KINDS = {
    "Softmax": SOFTMAX,
    "LogSoftmax": LOG_SOFTMAX,
    "Sigmoid": SIGMOID,
    "Gemm": LOGITS,
    "MatMul": LOGITS,
    "Conv": LOGITS,
}


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
    (entry, *_), (result, *_) = _ends(lambda: (interpreter.get_input_details(), interpreter.get_output_details()), path)
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


def _open_litert(path: Path, threads: int | None) -> OpenedFile:
    interpreter = _litert_interpreter(path, threads)
    inputs, outputs = _ends(lambda: (interpreter.get_input_details(), interpreter.get_output_details()), path)
    shape, answer = inputs[0]["shape_signature"].tolist(), outputs[0]["shape_signature"].tolist()
    if len(shape) != 4 or len(answer) != 2 or len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path} must take (N, height, width, channels) and give (N, classes). Received: {shape} and {answer}."
        )
    height, width, channels = (side if side > 0 else None for side in shape[1:])
    classes = int(answer[-1])
    card = model_files.embedded_card(path)
    takes_bytes = inputs[0]["dtype"] == np.uint8
    sides, count = (height, width, channels), classes if classes > 0 else None
    if card is not None:
        return OpenedFile(_run_litert(interpreter, path), sides, count, card, AS_IT_IS, takes_bytes)
    if inputs[0]["dtype"] not in (np.uint8, np.float32) or outputs[0]["dtype"] != np.float32:
        raise ModelError(
            f"{path} takes {inputs[0]['dtype'].__name__} and gives {outputs[0]['dtype'].__name__}. Expected uint8 or "
            "float32, and float32: convert it again with inference_output_type=tf.float32."
        )
    usual = AS_IT_IS if takes_bytes else SCALES["0..1"]
    return OpenedFile(_run_litert(interpreter, path), sides, count, None, usual, takes_bytes, None)
