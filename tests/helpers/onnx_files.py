"""Small ONNX networks made on the spot, good ones and such as a stranger might send."""

from typing import Any

import onnx
from onnx import TensorProto, helper


def tiny_onnx(
    classes: int = 2, side: int = 4, metadata: dict[str, str] | None = None, weights: TensorProto | None = None
) -> bytes:
    """A network from faces (N, side, side, 1) to probabilities: the mean of the pixels, weighted and squashed.

    weights: float32 (1, classes) in place of ones, for instance one whose data lies in another file.
    """
    weights = weights or helper.make_tensor("weights", TensorProto.FLOAT, (1, classes), [0.01] * classes)
    nodes = [
        helper.make_node("ReduceMean", ["faces"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return network(
        nodes, side=side, outputs=[_value("probabilities", ("N", classes))], initializers=[weights], metadata=metadata
    )


def network(
    nodes: list[Any],
    *,
    side: int = 4,
    outputs: list[Any] | None = None,
    initializers: list[TensorProto] | None = None,
    metadata: dict[str, str] | None = None,
) -> bytes:
    """Any nodes behind the input `faces`, as a file."""
    faces = _value("faces", ("N", side, side, 1))
    graph = helper.make_graph(nodes, "tiny", [faces], outputs or [_value("probabilities", ("N", 2))], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return bytes(model.SerializeToString())


def outside(location: str, length: int | None = None) -> TensorProto:
    """Weights float32 (1, 2) whose data lies in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    if length is not None:
        tensor.external_data.add(key="length", value=str(length))
    return tensor


def _value(name: str, shape: tuple[int | str, ...]) -> Any:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
