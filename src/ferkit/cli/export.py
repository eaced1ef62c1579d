"""`ferkit export`: a model in another format."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ferkit.cli.console import no_native_chatter, notes, print_json
from ferkit.errors import UsageError

if TYPE_CHECKING:
    from ferkit.models import Faces
    from ferkit.sources import FaceInput


def export(
    model: Annotated[str, typer.Argument(help="Model folder, .keras or .h5 file, or 'default'.")],
    out: Annotated[Path, typer.Argument(help="File to write: .onnx, .tflite, .keras or .h5.")],
    format_name: Annotated[str, typer.Option("--format", help="onnx, onnx-int8, litert, keras or h5.")],
    data: Annotated[
        str | None,
        typer.Option(help="Data set whose training faces onnx-int8 is fitted to; else faces of ferkit's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Export a model to ONNX, int8 ONNX, LiteRT, Keras or HDF5.

    Compares the predictions of the exported model with the original's on a thousand faces.

    Prints five lines of Python that use the file without ferkit.

    Example: ferkit export default emotions.onnx --format onnx
    """
    from ferkit._support.keras_backend import load_keras
    from ferkit.models import FORMATS, exporting

    exporting.check_name(out, format_name)  # what is wrong with the words is said before a model is opened
    chosen = FORMATS[format_name]
    if data is not None and not chosen.rounded:
        raise UsageError(f"--data is for formats of eight bits; {format_name} needs no faces. Leave it out.")
    with no_native_chatter():
        load_keras()
        original = exporting.open_original(model)
    faces = None if data is None else _faces(data, original.classifier.face_input)
    with no_native_chatter():
        parity = exporting.write(original, out, format_name, calibration=faces)
    instructions = chosen.instructions(out, original)
    if as_json:
        print_json(
            {
                "file": str(out),
                "format": format_name,
                "bytes": out.stat().st_size,
                "faces": parity.faces,
                "max_difference": parity.max_difference,
                "mean_difference": parity.mean_difference,
                "agreement": parity.agreement,
                "run": instructions,
            }
        )
        return
    notes.print(f"Wrote {out}: {parity} against {model}. To use it without ferkit:", markup=False)
    # Nothing else on standard output, so that it can go into a file: ferkit export ... > run.py
    typer.echo(instructions)


def _faces(data: str, face_input: "FaceInput") -> "Faces":
    from ferkit.data import load_dataset

    with notes.status(f"Reading {escape(data)}"):
        dataset = load_dataset(data, size=(face_input.height, face_input.width), channels=face_input.channels)
    return dataset.train.images
