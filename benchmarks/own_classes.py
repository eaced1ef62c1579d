"""Few faces with classes of one's own: a network from nothing against one that knows FER-2013 already.

    python benchmarks/own_classes.py fer2013.csv.gz

Makes a folder of pictures as a user would have it, three classes of 380 training faces and 200 held-out ones each
(positive: happy; negative: angry, disgust, fear, sad; calm: neutral), and trains on it both ways. The faces are drawn
from PublicTest, which the packaged model was chosen on but not trained on.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import ferkit
from ferkit.training.config import RECIPES

CLASSES = {"happy": "positive", "neutral": "calm", **dict.fromkeys(("angry", "disgust", "fear", "sad"), "negative")}


def write_pictures(faces: ferkit.FaceSet, folder: Path, train: int, val: int) -> None:
    owner = [CLASSES.get(name) for name in faces.classes]
    for wanted in sorted(set(CLASSES.values())):
        chosen = np.flatnonzero([owner[label] == wanted for label in faces.labels])
        np.random.default_rng(0).shuffle(chosen)
        for split, part in (("train", chosen[:train]), ("val", chosen[train : train + val])):
            place = folder / split / wanted
            place.mkdir(parents=True)
            for number in part:
                Image.fromarray(faces.images[number, :, :, 0]).save(place / f"{number:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("--train", type=int, default=380, help="training faces of each class; default: %(default)s")
    parser.add_argument("--val", type=int, default=200, help="held-out faces of each class; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "faces"
        write_pictures(ferkit.load_dataset(options.data).val, pictures, options.train, options.val)
        data = ferkit.load_dataset(pictures)
        usual = RECIPES["fine-tune"].config
        print(f"{len(data.train)} training faces, {len(data.val)} held out, {len(data.classes)} classes")
        for name, config in (
            ("--init default", usual.changed(init="default")),
            ("from nothing", usual.changed(learning_rate=1e-3, head_epochs=0)),
        ):
            accuracies, started = [], time.perf_counter()
            for seed in range(1, options.seeds + 1):
                out = Path(scratch) / f"{name}-{seed}".replace(" ", "-")
                run = ferkit.train(data, config.changed(seed=seed), out=out, quiet=True)
                accuracies.append(100 * run.classifier.card["metrics"]["accuracy"])
            seconds = (time.perf_counter() - started) / options.seeds
            figures = ", ".join(f"{one:.1f}" for one in accuracies)
            print(f"{name}: {figures} % right, {seconds:.0f} s a run of {config.epochs} epochs")


if __name__ == "__main__":
    main()
