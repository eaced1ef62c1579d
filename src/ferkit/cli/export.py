"""`ferkit export`: a model in another format."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, notes


def export(
    model: Annotated[str, typer.Argument(help="Model folder, .keras or .h5 file, or 'default'.")],
    out: Annotated[Path, typer.Argument(help="File to write.")],
    format_name: Annotated[str, typer.Option("--format", help="onnx, keras or h5.")],
) -> None:
    """Write a model in another format, after comparing its answers with the original's.

    Example: ferkit export default emotions.onnx --format onnx
    """
    from ferkit import export as exporting
    from ferkit.keras_backend import load_keras

    exporting.FORMATS[format_name]  # a wrong name is said before a model is opened
    with no_native_chatter():
        load_keras()
        difference = exporting.export(model, out, format_name)
    notes.print(f"Wrote {out}: probabilities differ by at most {difference:.1e} from {model}.", markup=False)
