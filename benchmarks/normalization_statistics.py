"""What batch normalisation's running statistics cost: a trained model as it is, and with statistics of clean faces.

No weight is changed; see `ferkit.models.statistics`.

    python benchmarks/normalization_statistics.py fer2013.csv.gz runs/tutorial
"""

import argparse

import numpy as np

import ferkit
from ferkit import evaluation
from ferkit.classifier import EmotionClassifier, keras_network
from ferkit.export import open_network
from ferkit.models.statistics import recalibrate_normalization


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("models", nargs="+", help="model folders")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data)
    faces = data.split(options.split)
    for model in options.models:
        network = open_network(model)
        classifier = EmotionClassifier(keras_network(network), name=model, classes=data.classes)
        before = evaluation.evaluate(classifier, faces)
        recalibrate_normalization(network, np.asarray(data.train.images))
        after = evaluation.evaluate(classifier, faces)
        print(
            f"{model} on {faces.name} (n = {before.n:,}): {before.accuracy:.2%} as trained, "
            f"{after.accuracy:.2%} with statistics of clean faces ({100 * (after.accuracy - before.accuracy):+.2f} points); "
            f"log loss {before.nll:.3f} -> {after.nll:.3f}"
        )


if __name__ == "__main__":
    main()
