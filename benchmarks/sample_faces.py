"""Draw the faces that exports are checked on: writes `eigenfaces.npz` of the package from the Training faces of FER-2013.

A model must be checked on faces, and the faces of a data set or of private persons cannot be given away. Principal
components can: the mean of 28,709 faces and the sixty directions in which they differ most (Sirovich & Kirby 1987;
Turk & Pentland 1991). Sums of them with random weights look like faces and are nobody's. Each component is scaled by its
standard deviation and kept in eight bits. The same data gives the same file.

    python benchmarks/sample_faces.py fer2013.csv.gz --sheet faces.png
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from ferkit._support.files import write_atomically
from ferkit.data.loading import load_dataset
from ferkit.models.export_formats import EIGENFACES, stored_faces
from ferkit.sources.images import FaceInput

COMPONENTS = 60


def components(faces: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Mean (D,), components (60, D) in gray levels per standard deviation, and the share of variance they hold."""
    pixels = faces.reshape(len(faces), -1).astype(np.float64)
    mean = pixels.mean(axis=0)
    pixels -= mean
    variances, directions = np.linalg.eigh(pixels.T @ pixels / len(pixels))
    largest = np.argsort(variances)[::-1][:COMPONENTS]
    found = directions.T[largest]
    # A direction and its opposite are the same component: the sign is the one that brightens.
    found *= np.where(found.sum(axis=1) < 0, -1, 1)[:, None]
    return mean, found * np.sqrt(variances[largest])[:, None], float(variances[largest].sum() / variances.sum())


def sheet(faces: npt.NDArray[np.uint8], columns: int) -> PIL.Image.Image:
    rows = [np.hstack(list(faces[i : i + columns, ..., 0])) for i in range(0, len(faces) - columns + 1, columns)]
    picture = PIL.Image.fromarray(np.vstack(rows))
    return picture.resize((picture.width * 2, picture.height * 2), PIL.Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument(
        "--sheet", type=Path, help="also write a contact sheet of the faces that exports are checked on"
    )
    options = parser.parse_args()

    faces = load_dataset(options.data).train.images
    mean, found, share = components(faces)
    scale = np.abs(found).max(axis=1) / 127
    with write_atomically(EIGENFACES) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            mean=np.rint(mean).astype(np.uint8).reshape(48, 48),
            components=np.rint(found / scale[:, None]).astype(np.int8).reshape(-1, 48, 48),
            scale=scale.astype(np.float32),
        )
    print(f"{EIGENFACES}: {EIGENFACES.stat().st_size:,} bytes, {share:.1%} of the variance of {len(faces):,} faces")
    if options.sheet:
        sheet(stored_faces(FaceInput())[::4], columns=25).save(options.sheet)


if __name__ == "__main__":
    main()
