"""How long ferkit takes to start: its help, its import, and the first prediction of a cold process.

    python benchmarks/start_up.py [--photo photo.jpg]

Every run is a fresh process with files in the page cache; contenders take turns for several rounds, and medians are
printed beside the start of an empty interpreter. `python -X importtime -c "import ferkit"` says which imports take it.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _shared import load_average, options_of, spread, take_turns
from ferkit.models import sample_picture

FERKIT = (sys.executable, "-m", "ferkit")
EMPTY = "empty interpreter"
# The seconds that a start may take.
GOALS = {"import ferkit": 0.15, "ferkit --help": 0.4, "ferkit predict": 1.5}


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument(
        "--photo", type=Path, default=sample_picture(), help="picture to predict (default: the sample's)"
    )
    parser.add_argument("--rounds", type=int, default=11, help="timed starts of each (default: %(default)s)")
    options = parser.parse_args()
    os.environ["FERKIT_OFFLINE"] = "1"
    commands = {
        EMPTY: (sys.executable, "-c", "pass"),
        "import ferkit": (sys.executable, "-c", "import ferkit"),
        "ferkit --help": (*FERKIT, "--help"),
        "ferkit predict": (*FERKIT, "predict", str(options.photo)),
    }
    starts: dict[str, Callable[[], object]] = {
        name: partial(subprocess.run, words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name, words in commands.items()
    }
    print(f"{options.rounds} rounds, medians; {os.cpu_count()} cores, load average before: {load_average()}")
    seconds = {name: [one.seconds for one in costs] for name, costs in take_turns(starts, options.rounds).items()}
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        line = f"{name:18} {spread(values, '.3f')} s"
        if name in GOALS:
            verdict = "reached" if middle[name] < GOALS[name] else "MISSED"
            line += f", {middle[name] / middle[EMPTY]:5.1f} empty ones; goal {GOALS[name]:.2f} s {verdict}"
        print(line)
    print(f"load average after: {load_average()}")
    sys.exit(any(middle[name] >= goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    main()
