"""The options of every command that recognises faces: which model, which detector, how sure it must be."""

from typing import Annotated

import typer

Model = Annotated[
    str, typer.Option(help="Model folder, 'default', 'default-int8', 'voters', or a .onnx, .tflite, .keras, .h5 file.")
]
Detector = Annotated[str, typer.Option(help="How faces are found; see: ferkit detectors.")]
MinConfidence = Annotated[
    float, typer.Option(min=0, max=1, help="Below this probability a face is labelled 'uncertain'.")
]
