"""Draw how several models bear degraded faces, from what `ferkit evaluate --robustness --json` printed.

    ferkit evaluate default runs/mine fer2013.csv --split PublicTest --robustness --limit 1000 --json > figures.json
    python benchmarks/robustness_plot.py figures.json --out robustness.png

Several files may be given, of one or of several models each.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ferkit.evaluation.robustness import Level, Robustness
from ferkit.evaluation.sections import plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = []
    for path in arguments.figures:
        documents = json.loads(path.read_text(encoding="utf-8"))
        found += [robustness_of(one) for one in (documents if isinstance(documents, list) else [documents])]
    for one in sorted(found, key=lambda one: -one.mean_accuracy):
        low, high = one.relative_accuracy_ci95
        print(
            f"{one.model}: {one.clean.accuracy:.1%} of {one.n:,} faces as they are, {one.mean_accuracy:.1%} on the mean of all "
            f"degradations, {one.relative_accuracy:.1%} left ({low:.1%} to {high:.1%})"
        )
    plot(found, arguments.out)


def robustness_of(document: dict[str, Any]) -> Robustness:
    """What one model's JSON document says about degraded faces."""
    stored = document["robustness"]

    def level(figures: dict[str, Any]) -> Level:
        return Level(**{"strength": 0.0, **figures, "accuracy_ci95": tuple(figures["accuracy_ci95"])})

    return Robustness(
        model=document["model"],
        split=document["split"],
        n=stored["n"],
        clean=level(stored["clean"]),
        levels={name: tuple(map(level, one["levels"])) for name, one in stored["degradations"].items()},
        relative_accuracy=stored["relative_accuracy"],
        relative_accuracy_ci95=tuple(stored["relative_accuracy_ci95"]),
        tta=document["tta"],
    )


if __name__ == "__main__":
    main()
