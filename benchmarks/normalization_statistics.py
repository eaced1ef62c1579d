"""What batch normalisation's running statistics cost: a run's states as trained, and with statistics of clean faces.

No weight is changed; see `ferkit.models.layers`. The best epoch was chosen among all, so its statistics happen to
fit; the last epoch is an epoch like any other.

    python benchmarks/normalization_statistics.py fer2013.csv.gz runs/tutorial
"""

import argparse
import json
from pathlib import Path

import numpy as np

import ferkit
from ferkit.evaluation import report as evaluation
from ferkit.models import EmotionClassifier, keras_network
from ferkit.models.layers import recalibrate_normalization
from ferkit.training import run_folder as checkpoints
from ferkit.training.step import compiled_model, untrained_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data)
    faces = data.split(options.split)
    for run in options.runs:
        stored = json.loads((run / "config.json").read_text())
        stored.pop("data")
        config = ferkit.TrainConfig.from_dict(stored)
        network = untrained_network(data.train, config)
        model = compiled_model(network, config, 1, np.bincount(data.train.labels))
        classifier = EmotionClassifier(keras_network(network), name=str(run), classes=data.classes)
        for state in ("best", "last"):
            checkpoint = checkpoints.load(run / "checkpoints" / f"{state}.npz")
            checkpoints.put(checkpoint, model)
            before = evaluation.evaluate(classifier, faces)
            recalibrate_normalization(network, data.train.images)
            after = evaluation.evaluate(classifier, faces)
            print(
                f"{run.name}, {state} epoch ({len(checkpoint.history)}), {faces.name} (n = {before.n:,}): "
                f"{before.accuracy:.2%} as trained, {after.accuracy:.2%} with statistics of clean faces "
                f"({100 * (after.accuracy - before.accuracy):+.2f} points); log loss {before.nll:.3f} -> {after.nll:.3f}"
            )


if __name__ == "__main__":
    main()
