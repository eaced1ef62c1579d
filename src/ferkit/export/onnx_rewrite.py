"""Small repairs of a converted network: the same answers with less work for one face."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import numpy_helper, shape_inference

# What only rearranges: a factor in front of it may as well stand behind.
_REARRANGE = ("Reshape", "Transpose")


def simplify(model: Any) -> Any:
    """Take out what ONNX Runtime does not: the scaling of the pixels, and shapes worked out for every batch."""
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
    """Remove what nobody reads any more."""
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
