"""A network that computes in eight bits: a quarter of the size, and about twice as fast on the CPU."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ferkit.errors import ModelError
from ferkit.export.conversion import INPUT

_BATCH = 64


def quantize(model: Any, faces: npt.NDArray[np.uint8]) -> Any:
    """Weights and activations of an `onnx.ModelProto` in eight bits (static quantization, Jacob et al. 2018).

    faces: uint8 (N, height, width, channels), as `model` takes them; the range of each activation over them is what
        its eight bits are spread over. 500 are plenty.

    Weights are signed and have a scale for each channel, activations are unsigned. ONNX Runtime also takes signed
    activations, but has no fast way to multiply them on x86: a residual network was then twice as slow as in float32.
    Whatever it can compute in eight bits it does, which was faster than convolutions alone; only the softmax at the end
    stays, as 256 steps are too few for probabilities.
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
            # Joins what would else be rounded twice, such as a convolution and the normalisation behind it.
            quant_pre_process(plain, fused, skip_symbolic_shape=True)
            if complaints:  # it would go on with what is not joined
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
            raise ModelError(f"The network cannot be written in eight bits: {first}") from problem
        return onnx.load(small)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep the quantizer from advising, through the root logger, what was done already; what it says that went wrong.

    It logs the errors of its first step with their tracebacks, and goes on.
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
