"""Networks as others save them: other classes, pixel scales, outputs and layouts, without a card."""

from pathlib import Path
from typing import Any

import numpy as np

from ferkit.labels import EMOTIONS


def bar_network(*, classes: tuple[str, ...] = EMOTIONS, outputs: str = "softmax", scale: str = "-1..1") -> Any:
    """Finds the bright bar of `faces.face_set` in 48x48 gray, and answers in the order of `classes`.

    A score falls with the distance between a strip's brightness and that of a bar, so that in another scale the bar is
    not found.

    outputs: activation of the last layer. scale: of the pixels that it takes.
    """
    import keras

    bright = {"0..1": 180 / 255, "-1..1": 180 / 127.5 - 1, "0..255": 180.0}[scale]
    unit = {"0..1": 1 / 255, "-1..1": 1 / 127.5, "0..255": 1.0}[scale]
    k = len(classes)
    layers = keras.layers
    distances = layers.Dense(2 * k, activation="relu")
    answer = layers.Dense(k, activation=outputs)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            layers.Cropping2D(((0, 0), (0, 48 - 48 // k * k))),
            layers.AveragePooling2D((48, 48 // k)),
            layers.Flatten(),
            distances,
            answer,
        ]
    )
    away = np.eye(k, dtype=np.float32)
    distances.set_weights([np.hstack([away, -away]), np.repeat([-bright, bright], k)])
    steep = -0.1 / unit * np.vstack([away, away])
    names = [EMOTIONS.index(name) for name in classes] if set(classes) == set(EMOTIONS) else list(range(k))
    answer.set_weights([steep[:, names], np.full(k, 6.0, np.float32)])
    return model


def mean_onnx(
    path: Path,
    last: str = "Softmax",
    *,
    classes: int = 3,
    layout: str = "NCHW",
    batch: int | str = "N",
    side: int = 8,
    element: int = 1,
) -> Path:
    """An ONNX network of the mean of the pixels, as PyTorch exports them, whose last operator is `last`.

    last: also `written-out`, a softmax of single operators.
    """
    import onnx
    from onnx import helper, numpy_helper

    dtype = helper.tensor_dtype_to_np_dtype(element)
    weights = numpy_helper.from_array(np.linspace(-4, 4, classes, dtype=dtype).reshape(1, -1), "weights")
    bias = numpy_helper.from_array(np.linspace(1, 0, classes, dtype=dtype), "bias")
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["y" if last == "Gemm" else "logits"]),
    ]
    if last == "written-out":
        nodes += [
            helper.make_node("Exp", ["logits"], ["powers"]),
            helper.make_node("ReduceL1", ["powers"], ["sum"], axes=[1]),
            helper.make_node("Div", ["powers", "sum"], ["y"]),
        ]
    elif last != "Gemm":
        nodes += [helper.make_node(last, ["logits"], ["inner"]), helper.make_node("Identity", ["inner"], ["y"])]
    shape = [batch, 1, side, side] if layout == "NCHW" else [batch, side, side, 1]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, [batch, classes])],
        [weights, bias],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
