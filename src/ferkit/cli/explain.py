"""`ferkit explain`: which places of a face speak for an emotion."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferkit.cli.console import no_native_chatter, notes, output, print_json
from ferkit.cli.options import Detector
from ferkit.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferkit.evaluation import Explanation
    from ferkit.results import Face

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def explain(
    model: Annotated[str, typer.Argument(help="Model folder, 'default', or a .onnx, .tflite, .keras, .h5 file.")],
    picture: Annotated[str, typer.Argument(help="Picture, https://..., or -.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the picture with heatmaps on its faces: .png, .jpg.")
    ] = None,
    array: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the heatmaps as numbers: .npz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    method: Annotated[
        str, typer.Option(help="grad-cam, occlusion, or auto: grad-cam where Keras and model.keras are there.")
    ] = "auto",
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="Explain this emotion, not the most probable one.")
    ] = None,
    face: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the Nth face from the left; else all of them.")
    ] = None,
    detector: Detector = "auto",
) -> None:
    """Explain a prediction with a Grad-CAM or occlusion heatmap.

    Grad-CAM needs Keras; occlusion runs with the base install.

    The map says where the model looked, not why a person looks so, nor whether the answer is right.

    Example: ferkit explain default photo.jpg --out heatmap.png
    """
    import warnings

    from ferkit.evaluation import AUTO, METHODS, class_of, explain_faces, open_method
    from ferkit.models import EmotionClassifier
    from ferkit.recognizer import EmotionRecognizer
    from ferkit.sources import is_many, name_of, read_image

    # Pillow warns of large pictures and odd metadata; what cannot be read is said anyway.
    warnings.filterwarnings("ignore", module="PIL")
    _check_files(picture, out, array, as_json)
    if method != AUTO:
        METHODS[method]  # a wrong name is said before the model is loaded
    if is_many(picture):
        raise UsageError(f"{picture} stands for many pictures. One is explained at a time.")
    with no_native_chatter():
        classifier = EmotionClassifier.load(model)
        class_of(classifier, label)
        image = read_image(picture)
        faces = _chosen(EmotionRecognizer(classifier, detector).detect(image), face, picture)
        opened = open_method(classifier, method)
        found = explain_faces(classifier, opened, image, faces, label=label)
    if as_json:
        height, width = image.shape[:2]
        document = {"source": name_of(picture), "width": width, "height": height, "model": model, "method": opened.name}
        print_json({**document, "faces": [one.to_dict() for one in found]})
    else:
        for number, one in enumerate(found, start=face or 1):
            output.print(f"{number:>3}  {_line(one)}", markup=False, soft_wrap=True)
    # After the figures, so that a file that cannot be written does not cost them.
    for write, file in ((_write_overlay, out), (_write_array, array)):
        if file is not None:
            write(found, file)
            notes.print(f"Wrote {file}", markup=False)


def _check_files(picture: str, out: Path | None, array: Path | None, as_json: bool) -> None:
    import os

    if out is None and array is None and not as_json:
        raise UsageError("Say where the heatmap goes: --out heatmap.png, --array maps.npz or --json.")
    if out is not None and out.suffix.lower() not in _FORMATS:
        raise UsageError(f"--out must end in {', '.join(_FORMATS)}. Received: {out.name}.")
    if array is not None and array.suffix.lower() != ".npz":
        raise UsageError(f"--array must end in .npz. Received: {array.name}.")
    for file in (out, array):
        # os.path.exists answers False to what can be no path, such as a data URI, where Path's raises.
        if file is not None and file.exists() and os.path.exists(picture) and file.samefile(picture):  # noqa: PTH110
            raise UsageError(f"{file} is the picture itself, and would be replaced. Name another file.")


def _chosen(faces: "Sequence[Face]", number: int | None, picture: str) -> "Sequence[Face]":
    from ferkit.sources import name_of

    if not faces:
        raise ImageError(f"No face was found in {name_of(picture)}. If all of it is a face: --detector none.")
    if number is None:
        return faces
    if number > len(faces):
        raise ImageError(f"--face must be 1 to {len(faces)}, the faces of {name_of(picture)}. Received: {number}.")
    return faces[number - 1 : number]


def _line(one: "Explanation") -> str:
    """A face in words: its emotion, the method, and what covering the place that counts most does."""
    text = f"{one.label} {one.confidence:.1%}  {one.method}"
    if not one.heatmap.any():
        return f"{text}  no place speaks for it"
    return text if one.peak is None else f"{text}  at most {100 * one.peak:.1f} points less where covered"


def _write_overlay(found: "Sequence[Explanation]", out: Path) -> None:
    import PIL.Image

    from ferkit._support.files import write_encoded
    from ferkit.evaluation import overlay

    drawn = PIL.Image.fromarray(overlay(found))
    form = _FORMATS[out.suffix.lower()]
    # 4:4:4: coloured lines and letters smear with halved colour resolution.
    write_encoded(out, lambda stream: drawn.save(stream, form, quality=92, subsampling=0), ImageError)


def _write_array(found: "Sequence[Explanation]", array: Path) -> None:
    """One row per face: heatmaps, and the matrices that take them to the picture."""
    import numpy as np

    from ferkit._support.files import write_encoded

    columns: dict[str, Any] = {
        "heatmaps": np.stack([one.heatmap for one in found]),
        "to_picture": np.stack([one.to_picture for one in found]),
        "boxes": np.array([one.face.box.to_list() for one in found]),
        "labels": np.array([one.label for one in found]),
        "probabilities": np.array([one.confidence for one in found], np.float32),
        "peaks": np.array([np.nan if one.peak is None else one.peak for one in found], np.float32),
        "method": np.array(found[0].method),
    }
    write_encoded(array, lambda stream: np.savez_compressed(stream, **columns), ImageError)
