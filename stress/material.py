"""What the disturbed commands work on: small, but real; the same in every run."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageEnhance

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from dataset_files import row, write_csv
from ferkit.data.loading import load_dataset
from ferkit.models import sample_picture
from ferkit.models.export_formats import stored_faces
from ferkit.sources.images import FaceInput

TRAINING, HELD_OUT = 448, 224
PICTURES = 48


def make(folder: Path, data: str | None) -> None:
    """Write `faces.csv` and `pictures/`. data: FER-2013, of which a few faces are taken; None draws faces."""
    folder.mkdir(parents=True)
    faces, labels = _drawn() if data is None else _taken(data)
    usages = ["Training"] * TRAINING + ["PublicTest"] * HELD_OUT
    write_csv(folder / "faces.csv", [row(*one) for one in zip(faces, labels, usages, strict=True)])
    _pictures(folder / "pictures")


def _taken(data: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    dataset = load_dataset(data)
    parts = [(dataset.train, TRAINING), (dataset.val, HELD_OUT)]
    return (
        np.concatenate([split.images[:count] for split, count in parts]),
        np.concatenate([split.labels[:count] for split, count in parts]),
    )


def _drawn() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Artificial faces; what is to be learnt is how bright they are."""
    faces = stored_faces(FaceInput())[: TRAINING + HELD_OUT]
    brightness = faces.mean(axis=(1, 2, 3))
    return faces, np.searchsorted(np.quantile(brightness, np.arange(1, 7) / 7), brightness)


def _pictures(folder: Path) -> None:
    """The portrait of the package in several lights, mirrored and not; every sixth is no picture."""
    folder.mkdir()
    with PIL.Image.open(sample_picture()) as portrait:
        for number in range(PICTURES):
            path = folder / f"{number:03}.jpg"
            if number % 6 == 5:
                path.write_bytes(b"no picture")
                continue
            light = PIL.ImageEnhance.Brightness(portrait).enhance(0.6 + 0.02 * number)
            mirrored = light.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else light
            mirrored.save(path, quality=90)
