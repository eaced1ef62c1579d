"""How fast FER-2013 is read from its CSV, against the loops of tutorials; time and peak memory of each, in one run.

Every contender runs in a process of its own, so that its peak memory is its own, and its imports count. The CSV is
read as it is given and as a plain copy, which is written for the run. Pandas is not a dependency of ferkit:
`pip install pandas` first.

    python benchmarks/data_loading.py fer2013.csv.gz
"""

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _shared import cost_of, options_of

Shape = tuple[int, ...]


def tutorial_int(path: str) -> Shape:
    """pandas, then [int(pixel) for pixel in pixels.split(' ')] for each row: the tutorial's loop, most often copied"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"].tolist():
        face = [int(pixel) for pixel in text.split(" ")]
        faces.append(np.asarray(face).reshape(48, 48, 1).astype("float32"))
    pixels: Shape = (np.asarray(faces) / 255.0).shape
    return pixels


def tutorial_split(path: str) -> Shape:
    """pandas, then np.array(pixels.split(' ')) for each row: a variant"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"]:
        faces.append(np.array(text.split(" "), "float32").reshape(48, 48, 1))
    pixels: Shape = (np.array(faces) / 255.0).shape
    return pixels


def tutorial_fromstring(path: str) -> Shape:
    """pandas, then np.fromstring(pixels, sep=' ') for each row: the fastest variant"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"]:
        faces.append(np.fromstring(text, dtype="float32", sep=" ").reshape(48, 48, 1))
    pixels: Shape = (np.array(faces) / 255.0).shape
    return pixels


def ferkit_cold(path: str) -> Shape:
    """ferkit.load_dataset, nothing in the cache; duplicates and conflicts found as well"""
    from ferkit.data.loading import load_dataset

    return (sum(len(one) for one in load_dataset(path).splits.values()), 48, 48, 1)


def ferkit_cached(path: str) -> Shape:
    """ferkit.load_dataset, second load"""
    return ferkit_cold(path)


LOOPS = (tutorial_int, tutorial_split, tutorial_fromstring)
# The cached load needs the cold one before it.
CONTENDERS = {one.__name__: one for one in (*LOOPS, ferkit_cold, ferkit_cached)}


def measure(name: str, path: str) -> None:
    """Run one contender in this process; print seconds (its imports included), peak MB and shape as JSON."""
    shapes: list[Shape] = []
    cost = cost_of(lambda: shapes.append(CONTENDERS[name](path)))
    # Kilobytes on Linux, bytes on macOS.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": cost.seconds, "cpu_seconds": cost.cpu, "peak_mb": peak_mb, "shape": shapes[0]}))


def run(name: str, path: Path, cache: str) -> dict[str, Any]:
    """One contender in a process of its own; prints and returns its figures."""
    words = [sys.executable, __file__, str(path), "--only", name]
    environment = {**os.environ, "FERKIT_CACHE": cache}
    ran = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(ran.stdout)
    print(
        f"{name:20} {figures['seconds']:7.2f} s {figures['cpu_seconds']:7.2f} s CPU {figures['peak_mb']:7.0f} MB peak",
        flush=True,
    )
    return figures


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("csv", type=Path, help="FER-2013 CSV, packed by gzip")
    parser.add_argument("--only", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, str(options.csv))
        return

    for name, contender in CONTENDERS.items():
        print(f"{name:20} {contender.__doc__}")
    reached = []
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain.csv")
        with gzip.open(options.csv) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
            os.fsync(file.fileno())  # or the disk would still be writing it while ours is measured
        for path in (options.csv, plain):
            print(f"\n{path.name}, {path.stat().st_size / 1e6:.0f} MB")
            results = {name: run(name, path, folder) for name in CONTENDERS}
            cold = results[ferkit_cold.__name__]
            for loop in LOOPS:
                slow = results[loop.__name__]
                wall, cpu = (slow[unit] / cold[unit] for unit in ("seconds", "cpu_seconds"))
                print(f"ferkit_cold against {loop.__name__}: {wall:.1f} times as fast, {cpu:.1f} times less CPU")
            headline = results[LOOPS[0].__name__]
            same = headline["shape"] == cold["shape"]
            reached.append(same and headline["seconds"] / cold["seconds"] >= 10 and cold["peak_mb"] < 1500)
    goals = f"at least 10 times as fast as {LOOPS[0].__name__}, peak below 1,500 MB"
    print(f"\nGoals, for both files ({goals}):", "reached" if all(reached) else "MISSED")
    sys.exit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
