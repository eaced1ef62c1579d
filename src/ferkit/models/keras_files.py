"""Keras files: opening them without running code of theirs, and the network that comes out."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.keras_backend import load_keras
from ferkit.errors import ModelError
from ferkit.models import model_files
from ferkit.models.foreign import (
    AS_IT_IS,
    LOG_SOFTMAX,
    OUTPUTS,
    SCALES,
    SIGMOID,
    SOFTMAX,
    PixelScale,
    as_probabilities,
)


@dataclass(frozen=True)
class KerasNetwork:
    """Runs a `keras.Model`, which takes pixels 0..255 and gives probabilities unless it is said otherwise.

    Attributes:
        model: It takes what `scale` makes of pixels 0..255, and gives what `outputs` says.
        scale: The pixels that it was trained on.
        outputs: One of `foreign.OUTPUTS`.
    """

    model: Any
    scale: PixelScale = AS_IT_IS
    outputs: str = SOFTMAX

    def __call__(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return as_probabilities(np.asarray(self.model.predict_on_batch(self.scale(faces)), np.float32), self.outputs)

    @cached_property
    def standard(self) -> Any:
        """The same as a `keras.Model` of pixels 0..255 -> probabilities: itself, or with layers around it."""
        if self.scale == AS_IT_IS and self.outputs == SOFTMAX:
            return self.model
        keras = load_keras()
        pixels = keras.Input(self.model.input_shape[1:])
        factor = [1 / one for one in self.scale.std]
        offset = [-mean / std for mean, std in zip(self.scale.mean, self.scale.std, strict=True)]
        one_for_all = len(factor) == 1
        scaling = keras.layers.Rescaling(
            *(factor[0], offset[0]) if one_for_all else (factor, offset), name="pixel_scale"
        )
        x = self.model(pixels if self.scale == AS_IT_IS else scaling(pixels))
        if self.model.output_shape[-1] == 1 and self.outputs != SOFTMAX:
            second = x if self.outputs == SIGMOID else keras.ops.sigmoid(x)
            x = keras.ops.concatenate([1 - second, second], axis=-1)
        elif self.outputs != SOFTMAX:
            logs = keras.ops.log(keras.ops.maximum(x, 1e-30)) if self.outputs == SIGMOID else x
            x = keras.layers.Softmax(dtype="float32", name="as_probabilities")(logs)
        return keras.Model(pixels, x, name=self.model.name)


def open_keras(path: Path) -> Any:
    """Load a `.keras` or `.h5` file as a `keras.Model`. Raises `ModelError` if it contains code or cannot be read."""
    model_files.refuse_code(path)
    keras = load_keras()
    try:
        with _lower_suffix(path) as file:
            # Safe mode is Keras' default; it is written out because nothing else may ever stand here.
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as problem:  # layers raise nearly anything for invalid values
        text = str(problem).strip()
        first = text.split("\n")[0]
        # Of a layer inside a network, Keras says so at the end.
        if match := re.search(r"Unknown layer: '?(\w+)|locate class '(\w+)'|locate function '(\w+)'", text):
            name = next(filter(None, match.groups()))
            raise ModelError(f"{path} uses {name!r}, whose code is not in it. {model_files.TO_ONNX}") from problem
        raise ModelError(f"Keras cannot load {path}: {first or type(problem).__name__}") from problem
    return _plain(model)


@contextmanager
def _lower_suffix(path: Path) -> Iterator[Path]:
    """The file, or a copy whose suffix is in lower case: Keras knows no other."""
    if path.suffix == path.suffix.lower():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / f"model{path.suffix.lower()}"))


def _plain(model: Any) -> Any:
    """The model, without the list or the mapping around its only input and output: `Model([a], [b])` as `Model(a, b)`."""
    inputs, outputs = (getattr(model, name, None) for name in ("_inputs_struct", "_outputs_struct"))
    wrapped = any(isinstance(one, list | tuple | dict) and len(one) == 1 for one in (inputs, outputs))
    if not wrapped or not len(model.inputs) == len(model.outputs) == 1:
        return model
    return load_keras().Model(model.inputs[0], model.outputs[0], name=model.name)


def usual_scale(model: Any) -> PixelScale:
    """0..1, as in the tutorial, unless there is a scaling layer inside."""
    scaled_inside = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in model.layers)
    return AS_IT_IS if scaled_inside else SCALES["0..1"]


# Layers at the end of a network that leave what the activation before them made.
_PASSES = ("Dropout", "Reshape", "Flatten", "Identity", "GlobalAveragePooling2D")


def outputs_of(model: Any, path: Path) -> str | None:
    """What the outputs are, by the activation of the last layer; None where it has none."""
    tensor = model.outputs[0]
    while True:
        operation, call, _ = tensor._keras_history
        if len(getattr(operation, "outputs", None) or ()) == 1 and hasattr(operation, "layers"):
            tensor = operation.outputs[0]
        elif type(operation).__name__ in _PASSES:
            tensor = operation._inbound_nodes[call].input_tensors[0]
        else:
            break
    if type(operation).__name__ in ("Softmax", "Sigmoid", "LogSoftmax"):
        return {"Softmax": SOFTMAX, "Sigmoid": SIGMOID, "LogSoftmax": LOG_SOFTMAX}[type(operation).__name__]
    name = getattr(getattr(operation, "activation", None), "__name__", None)
    if name is not None and name not in OUTPUTS:
        raise ModelError(
            f"{path} ends in {name}, which gives neither probabilities nor logits. Expected one of: {', '.join(OUTPUTS)}."
        )
    return name
