"""Groups to try `ferkit evaluate --groups` with, where no data says which people are in it.

    python benchmarks/stand_in_groups.py fer2013.csv groups.csv
    ferkit evaluate default fer2013.csv --split PublicTest --groups groups.csv

Of every face of a split: its quarters by mean brightness and by contrast, for which a model may well differ, and a half
drawn at random, for which it must not. None of them says anything about people.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferkit._support.files import write_atomically
from ferkit.data.loading import load_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    faces = load_dataset(arguments.data).split(arguments.split)
    if faces.rows is None:
        raise SystemExit("Nobody knows where in the data its faces stand.")
    brightness = quarters(faces.images.mean(axis=(1, 2, 3)))
    contrast = quarters(faces.images.std(axis=(1, 2, 3)))
    halves = np.random.default_rng(arguments.seed).integers(2, size=len(faces))
    with write_atomically(arguments.out) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "label", "brightness", "contrast", "half"])
        for i, (row, label) in enumerate(zip(faces.rows, faces.labels, strict=True)):
            bright, strong = f"{brightness[i]} of 4", f"{contrast[i]} of 4"
            writer.writerow([row, faces.classes[label], bright, strong, f"half {halves[i] + 1}"])


def quarters(values: npt.NDArray[np.floating]) -> list[int]:
    """From 1, the lowest quarter, to 4."""
    places = np.digitize(values, np.quantile(values, (0.25, 0.5, 0.75)))
    return [1 + int(place) for place in places]


if __name__ == "__main__":
    main()
