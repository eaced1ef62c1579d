"""`ferkit explain`: which regions of a face support a prediction."""

from pathlib import Path
from typing import Annotated

import typer

from ferkit.cli.console import no_native_chatter, output, print_json, say
from ferkit.cli.options import AsJson, Classes, Detector, PixelScaleOption
from ferkit.errors import ImageError, UsageError


def explain(
    model: Annotated[str, typer.Argument(help="Model folder, 'default', or a .onnx, .tflite, .keras, .h5 file.")],
    picture: Annotated[str, typer.Argument(help="Image, https://..., or -.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the image with heatmaps on its faces: .png, .jpg.")
    ] = None,
    array: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the heatmaps as numbers: .npz.")] = None,
    as_json: AsJson = False,
    method: Annotated[
        str,
        typer.Option(
            help="occlusion, grad-cam, or auto: grad-cam if Keras and model.keras are available, else occlusion."
        ),
    ] = "occlusion",
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="Explain this class instead of the most probable one.")
    ] = None,
    face: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the Nth face from the left. [default: all]")
    ] = None,
    detector: Detector = "auto",
    classes: Classes = None,
    pixel_scale: PixelScaleOption = None,
) -> None:
    """Explain a prediction with a Grad-CAM or occlusion heatmap.

    The heatmap shows the regions of each face that support its class. It does not show whether the prediction is correct.
    Grad-CAM needs Keras; occlusion does not.

    Example: ferkit explain default photo.jpg --out heatmap.png
    """
    import warnings

    from ferkit.evaluation import AUTO, METHODS, check_files, save_arrays, save_overlay
    from ferkit.evaluation import explain as explain_picture
    from ferkit.models import open_classifier
    from ferkit.sources import is_many, name_of

    # Pillow warns of large pictures and odd metadata; what cannot be read is said anyway.
    warnings.filterwarnings("ignore", module="PIL")
    if out is None and array is None and not as_json:
        raise UsageError("Say where the heatmap goes: --out heatmap.png, --array maps.npz or --json.")
    check_files(out, array, picture)
    if method != AUTO:
        METHODS[method]  # a wrong name is said before the model is loaded
    if is_many(picture):
        raise UsageError(f"{picture} contains several images. Only one image can be explained at a time.")
    with no_native_chatter():
        classifier = open_classifier(model, classes=classes, pixel_scale=pixel_scale)
        found = explain_picture(classifier, picture, face=face, label=label, method=method, detector=detector)
    if not found:
        raise ImageError(f"No face was found in {name_of(picture)}. If all of it is a face: --detector none.")
    if as_json:
        height, width = found[0].picture.shape[:2]
        document = {"source": name_of(picture), "width": width, "height": height, "model": model}
        print_json({**document, "method": found[0].method, "faces": [one.to_dict() for one in found]})
    else:
        for number, one in enumerate(found, start=face or 1):
            output.print(f"{number:>3}  {one}", markup=False, soft_wrap=True)
    # After the results, so that a file that cannot be written does not cost them.
    for write, file in ((save_overlay, out), (save_arrays, array)):
        if file is not None:
            write(found, file)
            say(f"Wrote {file}")
