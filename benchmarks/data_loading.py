"""How fast FER-2013 is read from its CSV, against the loops of tutorials; time and peak memory of each, in one run.

Every contender runs in a process of its own, so that its peak memory is its own. Pandas is not a dependency of ferkit:
`pip install pandas` first.

    python benchmarks/data_loading.py fer2013.csv.gz
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable


def tutorial_split(path: str) -> tuple[int, ...]:
    """pandas, then np.array(pixels.split(' ')) for each row: the tutorial's loop"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"]:
        faces.append(np.array(text.split(" "), "float32").reshape(48, 48, 1))
    pixels: tuple[int, ...] = (np.array(faces) / 255.0).shape
    return pixels


def tutorial_fromstring(path: str) -> tuple[int, ...]:
    """pandas, then np.fromstring(pixels, sep=' ') for each row: its faster variant"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"]:
        faces.append(np.fromstring(text, dtype="float32", sep=" ").reshape(48, 48, 1))
    pixels: tuple[int, ...] = (np.array(faces) / 255.0).shape
    return pixels


def tutorial_int(path: str) -> tuple[int, ...]:
    """pandas, then [int(pixel) for pixel in pixels.split(' ')] for each row: the loop most often copied"""
    import numpy as np
    import pandas as pd

    table = pd.read_csv(path)
    faces = []
    for text in table["pixels"].tolist():
        face = [int(pixel) for pixel in text.split(" ")]
        faces.append(np.asarray(face).reshape(48, 48, 1).astype("float32"))
    pixels: tuple[int, ...] = (np.asarray(faces) / 255.0).shape
    return pixels


def ferkit_cold(path: str) -> tuple[int, ...]:
    """ferkit.load_dataset, nothing in the cache; duplicates and conflicts found as well"""
    from ferkit.datasets import load_dataset

    return (sum(len(one) for one in load_dataset(path).splits.values()), 48, 48, 1)


def ferkit_cached(path: str) -> tuple[int, ...]:
    """ferkit.load_dataset, second load"""
    return ferkit_cold(path)


# In the order they run: the cached load needs the cold one before it.
CONTENDERS: tuple[Callable[[str], tuple[int, ...]], ...] = (
    tutorial_split,
    tutorial_fromstring,
    tutorial_int,
    ferkit_cold,
    ferkit_cached,
)


def measure(name: str, path: str) -> None:
    """Run one contender in this process; print seconds (its imports included), peak MB and shape as JSON."""
    started, cpu = time.perf_counter(), time.process_time()
    shape = {one.__name__: one for one in CONTENDERS}[name](path)
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        # Kilobytes on Linux, bytes on macOS.
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        "shape": shape,
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", help="FER-2013 CSV, plain or .gz")
    parser.add_argument("--only", choices=[one.__name__ for one in CONTENDERS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only, arguments.csv)
        return

    results = {}
    with tempfile.TemporaryDirectory() as cache:
        for contender in CONTENDERS:
            command = [sys.executable, __file__, arguments.csv, "--only", contender.__name__]
            ran = subprocess.run(
                command, env={**os.environ, "FERKIT_CACHE": cache}, check=True, stdout=subprocess.PIPE, text=True
            )
            one = results[contender.__name__] = json.loads(ran.stdout)
            print(
                f"{one['seconds']:8.2f} s {one['cpu_seconds']:8.2f} s CPU {one['peak_mb']:8.0f} MB peak  "
                f" {contender.__doc__}",
                flush=True,
            )
    cold = results["ferkit_cold"]
    for name in ("tutorial_split", "tutorial_fromstring", "tutorial_int"):
        wall, cpu = (results[name][unit] / cold[unit] for unit in ("seconds", "cpu_seconds"))
        print(f"ferkit cold against {name}: {wall:.1f} times as fast, {cpu:.1f} times less processor time")
    slow = results["tutorial_split"]
    faster = slow["seconds"] / cold["seconds"]
    same = tuple(slow["shape"]) == tuple(cold["shape"])
    passed = same and faster >= 10 and cold["peak_mb"] < 1500
    print("Goals (at least 10 times as fast, peak below 1,500 MB):", "reached" if passed else "MISSED")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
