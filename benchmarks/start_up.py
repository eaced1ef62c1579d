"""How long ferkit takes to start: its help, its import, and the first prediction of a cold process.

    python benchmarks/start_up.py [--photo photo.jpg] [--yunet WEIGHTS]

Every run is a fresh process with files in the page cache; contenders take turns for several rounds, and medians are
printed beside the start of an empty interpreter. Then the imports of `ferkit predict`: seconds by package, where the
standard library counts for the package that imports it first.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "src/ferkit/models/packaged/astronaut.jpg"
FERKIT = str(Path(sys.executable).with_name("ferkit"))
# What is started, and the seconds that it may take; None for yardsticks.
GOALS: dict[str, float | None] = {
    "empty interpreter": None,
    "import ferkit": 0.15,
    "ferkit --help": 0.4,
    "ferkit predict": 1.5,
}

# The trace goes to standard error, which predict turns away while a model is opened; here it may not.
_TRACED = "import os; os.dup2 = lambda *descriptors: None; from ferkit.cli import main; main()"
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| ( *)(\S+)")


def seconds_of(command: Sequence[str]) -> float:
    """Wall time of a command; what it prints goes nowhere."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def report_starts(commands: Mapping[str, Sequence[str]], rounds: int) -> bool:
    """Run all commands in turns and print their medians; True if every goal is reached."""
    runs: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = seconds_of(command)
            if number:  # the first fills the page cache and writes byte code
                runs[name].append(seconds)
    empty, reached = statistics.median(runs["empty interpreter"]), True
    for name, seconds_each in runs.items():
        middle, goal = statistics.median(seconds_each), GOALS[name]
        verdict = ""
        if goal is not None:
            verdict = f", {middle / empty:5.1f} empty ones; goal {goal:.2f} s " + (
                "reached" if middle < goal else "MISSED"
            )
            reached &= middle < goal
        print(f"{name:18} {middle:.3f} s ({min(seconds_each):.3f} to {max(seconds_each):.3f}){verdict}")
    return reached


def import_costs(trace: str) -> dict[str, float]:
    """Seconds of importing by package, from what `python -X importtime` wrote.

    A module of the standard library is charged to the package that imported it, whichever was the first.
    """
    costs: dict[str, float] = defaultdict(float)
    owners: list[str] = []
    # A module is printed after those that it imports, deeper ones further right; read backwards, importers come first.
    for own, indent, name in reversed(_LINE.findall(trace)):
        depth, package = len(indent) // 2, name.split(".")[0]
        del owners[depth:]
        if package in sys.stdlib_module_names:
            package = owners[-1] if owners else "(interpreter)"
        owners.append(package)
        costs[package] += int(own) / 1e6
    return costs


def report_imports(predict: Sequence[str], rounds: int, shown: int = 5) -> None:
    """Print the packages whose import costs `ferkit predict` most, medians of some runs."""
    runs = [
        import_costs(
            subprocess.run(
                [sys.executable, "-X", "importtime", "-c", _TRACED, *predict[1:]],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ).stderr
        )
        for _ in range(rounds)
    ]
    costs = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ranked = sorted(costs, key=lambda name: -costs[name])
    print(f"\nimports of ferkit predict: {sum(costs.values()):.3f} s while they are traced; of these")
    for name in ranked[:shown]:
        print(f"  {name:18} {costs[name]:.3f} s")
    print(f"  {'all others':18} {sum(costs[name] for name in ranked[shown:]):.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=SAMPLE, help="picture to predict (default: the sample's)")
    parser.add_argument("--yunet", type=Path, help="YuNet's weights (default: the detector that ferkit finds)")
    parser.add_argument("--rounds", type=int, default=11, help="timed starts of each (default: %(default)s)")
    options = parser.parse_args()
    # A missing weight file is fetched on first use, which nobody wants to time.
    os.environ["FERKIT_OFFLINE"] = "1"
    if options.yunet is not None:
        os.environ["FERKIT_YUNET"] = str(options.yunet.resolve())
    predict = [FERKIT, "predict", str(options.photo)]
    commands = {
        "empty interpreter": [sys.executable, "-c", "pass"],
        "import ferkit": [sys.executable, "-c", "import ferkit"],
        "ferkit --help": [FERKIT, "--help"],
        "ferkit predict": predict,
    }
    print(f"{options.rounds} rounds, medians; load average before: {os.getloadavg()[0]:.1f}")
    reached = report_starts(commands, options.rounds)
    report_imports(predict, max(3, options.rounds // 3))
    print(f"\nload average after: {os.getloadavg()[0]:.1f}\nGoals:", "reached" if reached else "MISSED")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
