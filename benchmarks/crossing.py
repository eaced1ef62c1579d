"""Try `ferkit evaluate --label-map` for real: a folder of faces named by what most of ten people saw in them.

    python benchmarks/crossing.py fer2013.csv.gz fer2013new.csv voted/
    ferkit evaluate default voted/ --label-map contempt= --report report/

There is no second set of faces in this repository, so this makes one of the first: the faces of PublicTest in folders that
have the names of FER+ (anger, happiness, ..., contempt), by the voters' first choice among their eight emotions. Faces with a
tie, or of which most said "unknown" or "no face", are left out. The pictures are the same; names, labels and classes are not.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np

import ferkit

EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013 as CSV")
    parser.add_argument("votes", type=Path, help="FER+ votes")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()

    faces = ferkit.load_dataset(options.data).split("PublicTest")
    with options.votes.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert faces.rows is not None  # noqa: S101 - faces of a table know their rows
    written = dict.fromkeys(EMOTIONS, 0)
    for face, row in zip(faces.images, faces.rows, strict=True):
        votes = np.array([int(rows[row][name]) for name in (*EMOTIONS, "unknown", "NF")])
        first = int(votes.argmax())
        if (votes == votes[first]).sum() > 1 or first >= len(EMOTIONS):
            continue
        folder = options.out / "test" / EMOTIONS[first]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{row:05}.png"), face)
        written[EMOTIONS[first]] += 1
    print(f"{options.out}: {sum(written.values()):,} of {len(faces):,} faces; {written}")


if __name__ == "__main__":
    main()
