"""What goes around a network inside an ONNX file: preparing any face, and the temperature.

A serving copy (`model.onnx` of a model folder) takes faces of exactly the network's size. A file for applications
takes what an application has: uint8 faces of any size, gray or RGB. One file does both, without an option: a face of
the network's own size passes the preparation as it is.

The preparation does what `ferkit.cropping.resize_face` does. ONNX has an operator `Resize` that averages when it
shrinks, but over a triangle and not over areas, and only from version 18 of the operators, so the two would differ;
written as two matrix products, averaging and interpolation are the same up to the rounding of pixels.
"""

from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, compose, helper, numpy_helper

from ferkit.export.conversion import INPUT, OUTPUT, SMALLEST
from ferkit.images import FaceInput
from ferkit.model_files import CARD_KEY
from ferkit.model_folder import INTENDED_USE

# ITU-R 601 luma as OpenCV computes it: whole numbers of 1 / 32768, so that the sum is exact in float32.
_LUMA = (9798.0, 19235.0, 3735.0)
_ONE = 32768.0


class _Graph:
    """Nodes and constants of a graph in the making; every call gives the name of what it computes."""

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

    def branch(self) -> Any:
        """The graph as one side of an `If`: its result is what was computed last."""
        result = helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.UINT8, None)
        return helper.make_graph(self.nodes, self.name, [], [result], self.constants)

    def model(self, inputs: Any, outputs: Any, like: Any) -> Any:
        """A model of the versions of another, so that the two can be joined."""
        graph = helper.make_graph(self.nodes, self.name, [inputs], [outputs], self.constants)
        return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)


def for_any_face(network: Any, face_input: FaceInput, temperature: float) -> Any:
    """A network with preparation and temperature around it.

    network: `onnx.ModelProto`, uint8 (N, height, width, channels) -> probabilities (N, classes).

    Returns an `onnx.ModelProto`: `faces`, uint8 (N, any height, any width, 1 gray or 3 RGB) -> `probabilities`,
    float32 (N, classes), calibrated.
    """
    network = compose.add_prefix(network, "network/")
    pixels, raw = network.graph.input[0], network.graph.output[0]
    before = _preparation(face_input, network)
    model = compose.merge_models(before, network, [(before.graph.output[0].name, pixels.name)])
    after = _tempering(temperature, raw, network)
    return compose.merge_models(model, after, [(raw.name, after.graph.input[0].name)])


def describe(model: Any, text: str) -> None:
    """Write the card of the file, JSON, into an `onnx.ModelProto`."""
    helper.set_model_props(model, {CARD_KEY: text})
    model.producer_name, model.producer_version = "ferkit", metadata.version("ferkit")
    model.doc_string = INTENDED_USE


def _preparation(face_input: FaceInput, like: Any) -> Any:
    """uint8 faces of any size -> of the network's size; what has that size already passes as it is."""
    size = [face_input.height, face_input.width, face_input.channels]
    g = _Graph("preparation")
    fits = g("Equal", g("Shape", INPUT, start=1), g.constant(size, np.int64))
    fits = g("ReduceMin", g("Cast", fits, to=TensorProto.INT32), keepdims=0)
    kept, resized = _Graph("kept"), _Graph("resized")
    kept("Identity", INPUT)
    _resize(resized, face_input)
    prepared = g("If", g("Cast", fits, to=TensorProto.BOOL), then_branch=kept.branch(), else_branch=resized.branch())
    return g.model(
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", "height", "width", "channels"]),
        helper.make_tensor_value_info(prepared, TensorProto.UINT8, ["batch", *size]),
        like,
    )


def _resize(g: _Graph, face_input: FaceInput) -> None:
    # Channels go to the front first: ONNX Runtime is slow on pictures whose last axis has one value.
    planes = g("Transpose", g("Cast", INPUT, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    colour = g.constant([1, 3, 1, 1], np.int64)
    planes = _gray(g, planes) if face_input.channels == 1 else g("Expand", planes, colour)
    rows = _weights(g, axis=1, target=face_input.height)
    columns = g("Transpose", _weights(g, axis=2, target=face_input.width), perm=[1, 0])
    planes = g("MatMul", g("MatMul", rows, planes), columns)
    rounded = g("Floor", g("Add", planes, g.constant(0.5)))
    g("Transpose", g("Cast", rounded, to=TensorProto.UINT8), perm=[0, 2, 3, 1])


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
    """What each source pixel adds to each target pixel, float32 (target, source): areas, or linear to enlarge."""
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


def _tempering(temperature: float, raw: Any, like: Any) -> Any:
    g = _Graph("temperature")
    name = "uncalibrated"
    logs = g("Log", g("Max", name, g.constant(SMALLEST)))
    g("Softmax", g("Div", logs, g.constant(temperature)), axis=-1)
    g.nodes[-1].output[0] = OUTPUT
    classes = raw.type.tensor_type.shape.dim[-1].dim_value
    return g.model(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes]),
        like,
    )
