"""`ferkit export`: a model in another format."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes, print_json, say
from ferkit.cli.options import AsJson, Classes, PixelScaleOption


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model folder, .keras, .h5 or .onnx file, or 'default'.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .onnx, .tflite, .keras or .h5; or a new folder.")
    ],
    format_name: Annotated[
        str, typer.Option("--format", help="onnx, onnx-int8, onnx-fixed, litert, keras, h5 or folder.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Dataset to calibrate onnx-int8 on. [default: synthetic faces]"),
    ] = None,
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
    as_json: AsJson = False,
) -> None:
    """Export a model to ONNX, int8 ONNX, LiteRT, Keras or HDF5.

    --format folder makes a model folder from any model file. The export is compared with the original on a thousand faces.
    Prints five lines of Python that use the file without ferkit.

    Example: ferkit export default emotions.onnx --format onnx
    """
    from ferkit.models import export as export_model

    with notes.status("Exporting"), no_native_chatter():
        exported = export_model(model, out, format_name, calibration=data, classes=classes, pixel_scale=pixel_scale)
    if as_json:
        print_json(exported.to_dict())
        return
    say(f"Wrote {out}: {exported.parity} against {model}. To use it without ferkit:")
    if exported.explanation:
        say(exported.explanation)
    # Nothing else on standard output, so that it can be redirected to a file: ferkit export ... > run.py
    typer.echo(exported.instructions)
