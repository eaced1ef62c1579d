"""ONNX graphs: preprocessing and calibration around a network, simplification, and int8 quantization.

The serving copy of a model folder (`model.onnx`) takes faces of exactly the network's size. An exported file takes
uint8 faces of any size, gray or RGB; a face of the network's own size passes the preprocessing unchanged.

The preprocessing equals `ferkit.detection.crops.resize_face`. The ONNX operator `Resize` averages over a triangle
instead of over areas, and only from opset 18 on, so the two would differ. As two matrix products, averaging and
interpolation are the same up to the rounding of pixels.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, shape_inference

from ferkit.errors import ModelError
from ferkit.models.calibration import SMALLEST
from ferkit.models.conversion import INPUT, OUTPUT
from ferkit.models.engines import channels_first
from ferkit.models.foreign import AS_IT_IS, SIGMOID, SOFTMAX, PixelScale
from ferkit.models.model_files import CARD_KEY
from ferkit.models.model_folder import INTENDED_USE
from ferkit.sources import FaceInput

# ITU-R 601 luma as OpenCV computes it: whole numbers of 1 / 32768, so that the sum is exact in float32.
_LUMA = (9798.0, 19235.0, 3735.0)
_ONE = 32768.0


class _Graph:
    """Builds a graph: every call adds a node and returns the name of its output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.name}/{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"{self.name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def model(self, inputs: Any, outputs: Any, like: Any) -> Any:
        """A model with the opset and IR versions of another, so that the two can be merged."""
        graph = helper.make_graph(self.nodes, self.name, [inputs], [outputs], self.constants)
        return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)


def for_any_face(
    network: Any, face_input: FaceInput, temperature: float, offsets: Sequence[float] | None = None
) -> Any:
    """Add preprocessing, sensitivity and temperature scaling to a network.

    Args:
        network: `onnx.ModelProto`, uint8 (N, height, width, channels) -> probabilities (N, classes).
        face_input: The faces that the network takes.
        temperature: Divides the log-probabilities.
        offsets: (classes,), subtracted from the log-probabilities before that; see `ferkit.models.calibration`.

    Returns:
        `onnx.ModelProto`: `faces`, uint8 (N, any height, any width, 1 gray or 3 RGB) -> `probabilities`, calibrated,
        float32 (N, classes).
    """
    network = compose.add_prefix(network, "network/")
    pixels, raw = network.graph.input[0], network.graph.output[0]
    before = _preparation(face_input, network)
    model = compose.merge_models(before, network, [(before.graph.output[0].name, pixels.name)])
    after = _tempering(temperature, offsets, raw, network)
    return compose.merge_models(model, after, [(raw.name, after.graph.input[0].name)])


def standard(network: Any, scale: PixelScale, outputs: str) -> Any:
    """Make a network of other origin take and give what ferkit's do.

    Args:
        network: `onnx.ModelProto`, pixels (N, height, width, channels) or (N, channels, height, width) in any number
            format -> (N, outputs). Its batch may be fixed.
        scale: The pixels that it was trained on.
        outputs: What it gives, one of `ferkit.models.foreign.OUTPUTS`.

    Returns:
        `onnx.ModelProto`: `faces`, uint8 (N, height, width, channels) -> `probabilities`, float32 (N, classes).
    """
    network = compose.add_prefix(network, "network/")
    constants = {one.name for one in network.graph.initializer}
    pixels = next(one for one in network.graph.input if one.name not in constants)  # old files list these as well
    raw = network.graph.output[0]
    batch, *sides = pixels.type.tensor_type.shape.dim
    planes = channels_first([0, *(side.dim_value for side in sides)])
    g = _Graph("pixels")
    x = g("Cast", INPUT, to=TensorProto.FLOAT)
    if scale != AS_IT_IS:
        x = g("Mul", g("Sub", x, g.constant(scale.mean)), g.constant([1 / one for one in scale.std]))
    x = g("Transpose", x, perm=[0, 3, 1, 2]) if planes else x
    x = g("Cast", x, to=pixels.type.tensor_type.elem_type)
    names = [one.dim_value or name for one, name in zip((batch, *sides), ("batch", "a", "b", "c"), strict=True)]
    faces = [names[0], *names[2:], names[1]] if planes else names
    before = g.model(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, faces),
        helper.make_tensor_value_info(x, pixels.type.tensor_type.elem_type, names),
        network,
    )
    model = compose.merge_models(before, network, [(x, pixels.name)])
    after = _probabilities(outputs, raw, names[0], network)
    return compose.merge_models(model, after, [(raw.name, after.graph.input[0].name)])


def _probabilities(outputs: str, raw: Any, batch: int | str, like: Any) -> Any:
    """What `ferkit.models.foreign.as_probabilities` does."""
    g = _Graph("outputs")
    kind, count = raw.type.tensor_type.elem_type, raw.type.tensor_type.shape.dim[-1].dim_value
    x = g("Cast", "raw", to=TensorProto.FLOAT)
    if outputs != SOFTMAX and count == 1:
        second = x if outputs == SIGMOID else g("Sigmoid", x)
        g("Concat", g("Sub", g.constant([1.0]), second), second, axis=1)
    elif outputs != SOFTMAX:
        g("Softmax", g("Log", g("Max", x, g.constant([1e-30]))) if outputs == SIGMOID else x, axis=1)
    g.nodes[-1].output[0] = OUTPUT
    classes = 2 if count == 1 else count or "classes"
    return g.model(
        helper.make_tensor_value_info("raw", kind, [batch, count or "classes"]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, classes]),
        like,
    )


def for_fixed_faces(
    network: Any, face_input: FaceInput, temperature: float, offsets: Sequence[float] | None = None
) -> Any:
    """Add sensitivity and temperature scaling to a network, and fix all of its shapes, as OpenCV's `dnn` needs them.

    Args:
        network: As `for_any_face` takes it.
        face_input: The faces that the network takes.
        temperature: Divides the log-probabilities.
        offsets: (classes,), subtracted from the log-probabilities before that.

    Returns:
        `onnx.ModelProto`: `faces`, float32 pixels 0..255 (1, channels, height, width) of the network's size, as
        `cv2.dnn.blobFromImage` makes them -> `probabilities`, calibrated, float32 (1, classes).
    """
    network = compose.add_prefix(network, "network/")
    pixels, raw = network.graph.input[0], network.graph.output[0]
    # The network begins with a cast to float32, which then changes nothing.
    pixels.type.tensor_type.elem_type = TensorProto.FLOAT
    del network.graph.value_info[:]
    for one in (pixels, raw):
        one.type.tensor_type.shape.dim[0].dim_value = 1
    g = _Graph("preparation")
    height, width, channels = face_input.height, face_input.width, face_input.channels
    faces = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, channels, height, width])
    prepared = helper.make_tensor_value_info(
        g("Transpose", INPUT, perm=[0, 2, 3, 1]), TensorProto.FLOAT, [1, height, width, channels]
    )
    model = compose.merge_models(g.model(faces, prepared, network), network, [(prepared.name, pixels.name)])
    after = _tempering(temperature, offsets, raw, network, batch=1)
    return compose.merge_models(model, after, [(raw.name, after.graph.input[0].name)])


def describe(model: Any, text: str) -> None:
    """Write a card, as JSON text, into an `onnx.ModelProto`."""
    helper.set_model_props(model, {CARD_KEY: text})
    model.producer_name, model.producer_version = "ferkit", metadata.version("ferkit")
    model.doc_string = INTENDED_USE


def _preparation(face_input: FaceInput, like: Any) -> Any:
    """uint8 faces of any size -> of the network's size; those of that size come out as they are.

    They are resized all the same: OpenVINO answers wrongly on the first call of a graph with an `If` on the size.
    """
    size = [face_input.height, face_input.width, face_input.channels]
    g = _Graph("preparation")
    prepared = _resize(g, face_input)
    return g.model(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", "channels"]),
        helper.make_tensor_value_info(prepared, TensorProto.UINT8, ["batch", *size]),
        like,
    )


def _resize(g: _Graph, face_input: FaceInput) -> str:
    # Channels go to the front first: ONNX Runtime is slow on pictures whose last axis has one value.
    planes = g("Transpose", g("Cast", INPUT, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    colour = face_input.channels == 3
    planes = g("Expand", planes, g.constant([1, 3, 1, 1], np.int64)) if colour else _gray(g, planes)
    rows = _weights(g, axis=1, target=face_input.height)
    columns = g("Transpose", _weights(g, axis=2, target=face_input.width), perm=[1, 0])
    planes = g("MatMul", g("MatMul", rows, planes), columns)
    rounded = g("Floor", g("Add", planes, g.constant(0.5)))
    return g("Transpose", g("Cast", rounded, to=TensorProto.UINT8), perm=[0, 2, 3, 1])


def _gray(g: _Graph, planes: str) -> str:
    """Luma of RGB, and gray as it is, (N, channels, H, W) -> (N, 1, H, W)."""
    channels = g("Shape", INPUT, start=3, end=4)
    table = g.constant([[_ONE, 0, 0], _LUMA])
    row = g("Div", g("Sub", channels, g.constant([1], np.int64)), g.constant([2], np.int64))
    weights = g(
        "Slice", g("Gather", table, row, axis=0), g.constant([0], np.int64), channels, g.constant([1], np.int64)
    )
    weights = g("Unsqueeze", weights, g.constant([2, 3], np.int64))  # (1, channels, 1, 1)
    luma = g("ReduceSum", g("Mul", planes, weights), g.constant([1], np.int64))
    return g("Floor", g("Mul", g("Add", luma, g.constant(_ONE / 2)), g.constant(1 / _ONE)))


def _weights(g: _Graph, *, axis: int, target: int) -> str:
    """Weight of each source pixel in each target pixel, float32 (target, source): by area, or linear to enlarge."""
    shape = g("Shape", INPUT, start=axis, end=axis + 1)
    source = g("Cast", g("Squeeze", shape), to=TensorProto.FLOAT)
    step = g("Div", source, g.constant(float(target)))
    there = g("Range", g.constant(0.0), source, g.constant(1.0))  # (source,)
    here = g.constant(np.arange(target).reshape(-1, 1))
    one, zero = g.constant(1.0), g.constant(0.0)

    end = g("Min", g("Mul", g("Add", here, one), step), g("Add", there, one))
    overlap = g("Sub", end, g("Max", g("Mul", here, step), there))
    areas = g("Div", g("Max", overlap, zero), step)

    half = g.constant(0.5)
    centre = g("Sub", g("Mul", g("Add", here, half), step), half)
    centre = g("Min", g("Max", centre, zero), g("Sub", source, one))
    linear = g("Max", g("Sub", one, g("Abs", g("Sub", centre, there))), zero)
    return g("Where", g("Greater", source, g.constant(float(target))), areas, linear)


def _tempering(
    temperature: float, offsets: Sequence[float] | None, raw: Any, like: Any, batch: int | str = "batch"
) -> Any:
    g = _Graph("temperature")
    name = "uncalibrated"
    logs = g("Log", g("Max", name, g.constant(SMALLEST)))
    if offsets is not None:
        logs = g("Sub", logs, g.constant(offsets))
    g("Softmax", g("Div", logs, g.constant(temperature)), axis=-1)
    g.nodes[-1].output[0] = OUTPUT
    classes = raw.type.tensor_type.shape.dim[-1].dim_value
    return g.model(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, classes]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, classes]),
        like,
    )


# Operators that only rearrange values: a factor can move past them.
_REARRANGE = ("Reshape", "Transpose")


def simplify(model: Any) -> Any:
    """Remove work that ONNX Runtime leaves in: the scaling of the pixels, and shapes computed for every batch."""
    _fold_scaling(model.graph)
    _fix_shapes(shape_inference.infer_shapes(model, data_prop=True).graph, model.graph)
    _sweep(model.graph)
    return model


def _fold_scaling(graph: Any) -> None:
    """Multiply the first convolution's kernel by the factor that the pixels are multiplied by in front of it.

    ONNX Runtime multiplies pictures of one channel, (N, height, width, 1), value by value: as costly as a convolution
    of a small network. Padding is zero and stays zero. An offset other than zero cannot be moved, so it stays.
    """
    constants = {one.name: one for one in graph.initializer}
    edge, chain, factor = graph.input[0].name, [], 1.0
    while node := _only_reader(graph, edge):
        if node.op_type == "Conv" and node.input[0] == edge:
            break
        others = [numpy_helper.to_array(constants[name]) for name in node.input if name in constants]
        if node.op_type in ("Mul", "Add") and len(others) == 1 and others[0].size == 1:
            if node.op_type == "Add" and others[0].item() != 0:
                return
            factor *= others[0].item() if node.op_type == "Mul" else 1.0
            chain.append(node)
        elif node.op_type not in ("Cast", *_REARRANGE):
            return
        edge = node.output[0]
    kernel = constants.get(node.input[1]) if node else None
    if kernel is None or not chain or sum(kernel.name in one.input for one in graph.node) != 1:
        return
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(factor), kernel.name))
    for one in chain:
        _bypass(graph, one)


def _fix_shapes(inferred: Any, graph: Any) -> None:
    """Give `Reshape` its shape as a constant where only the batch is unknown, instead of a chain that computes it."""
    shapes = {one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in inferred.value_info}
    constants = {one.name for one in graph.initializer}
    for node in graph.node:
        shape = shapes.get(node.output[0], [])
        if node.op_type == "Reshape" and node.input[1] not in constants and len(shape) > 1 and all(shape[1:]):
            fixed = numpy_helper.from_array(np.array([-1, *shape[1:]], np.int64), f"{node.output[0]}_shape")
            graph.initializer.append(fixed)
            node.input[1] = fixed.name


def _sweep(graph: Any) -> None:
    """Remove nodes and constants that are not used."""
    results = {one.name for one in graph.output}
    for node in reversed(graph.node):
        if not any(name in results or any(_readers(graph, name)) for name in node.output):
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for constant in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(constant)


def _readers(graph: Any, edge: str) -> Iterator[Any]:
    return (node for node in graph.node if edge in node.input)


def _only_reader(graph: Any, edge: str) -> Any:
    found = list(_readers(graph, edge))
    return found[0] if len(found) == 1 else None


def _bypass(graph: Any, node: Any) -> None:
    source = next(name for name in node.input if name not in {one.name for one in graph.initializer})
    for reader in _readers(graph, node.output[0]):
        for i, name in enumerate(reader.input):
            if name == node.output[0]:
                reader.input[i] = source
    graph.node.remove(node)


_BATCH = 64


def quantize(model: Any, faces: npt.NDArray[np.uint8]) -> Any:
    """Quantize weights and activations to int8 (static quantization, Jacob et al. 2018).

    The file is a quarter of the size and about twice as fast on the CPU. Weights are signed with a scale for each
    channel, activations are unsigned: ONNX Runtime multiplies signed activations slowly on x86, where a residual
    network was twice as slow as in float32. All operators are quantized, which was faster than convolutions alone,
    except for the softmax, as 256 steps are too few for probabilities.

    Args:
        model: `onnx.ModelProto`.
        faces: uint8 (N, height, width, channels) that calibrate the range of each activation; 500 are enough.

    Returns:
        The quantized `onnx.ModelProto`.

    Raises:
        ModelError: The network cannot be quantized.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = (faces[i : i + _BATCH] for i in range(0, len(faces), _BATCH))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet() as complaints:
        plain, fused, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "fused", "small"))
        onnx.save(model, plain)
        try:
            # Fuses operators that would be rounded twice, such as a convolution and its normalisation.
            quant_pre_process(plain, fused, skip_symbolic_shape=True)
            if complaints:  # it would continue without the fusion
                raise ModelError(f"{complaints[-1]} Is there room in {tempfile.gettempdir()}?")
            quantize_static(
                fused,
                small,
                Reader(),
                op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax"}),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except OSError:
            raise
        except Exception as problem:  # it raises what it meets: KeyError, ValueError, errors of ONNX Runtime
            first = str(problem).strip().split("\n")[0]
            raise ModelError(f"The network cannot be quantized to int8: {first}") from problem
        return onnx.load(small)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Silence the quantizer, which logs through the root logger, and collect the errors of its first step.

    It logs those with their tracebacks and continues.
    """
    root, first_step = logging.getLogger(), logging.getLogger("onnxruntime.quantization.shape_inference")
    complaints: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: complaints.append(record.getMessage().strip().split("\n")[-1])  # type: ignore[method-assign]
    level = root.level
    root.setLevel(logging.ERROR)
    first_step.addHandler(handler)
    first_step.propagate = False
    try:
        yield complaints
    finally:
        root.setLevel(level)
        first_step.removeHandler(handler)
        first_step.propagate = True
