"""Soft labels for FER-2013's training faces from their voters, a pretrained network and other models: a teacher's answers.

    python tools/label_teacher.py fer2013.csv.gz ferplus_votes.csv faceres-deep answers.npz fer2013 runs/faceres

FER+ votes say much about a label and are known for every training face, though never for a face in use. A small network learns
the label from a face's votes and from the features of a pretrained network that never saw a label, out of fold: five parts,
copies of a face in one of them, and each part is answered by the network that did not see it. The geometric mean of that with the
answers of other models is the teacher. How right it is on faces that none of them learnt from, PublicTest, is printed.

    ferkit train fer2013.csv.gz --teacher answers.npz ...
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ferkit._support.keras_backend import load_keras
from ferkit.data import FaceSet, assign_folds, load_dataset, pixel_prints
from ferkit.models import ARCHITECTURES, EmotionClassifier, augmented, take_weights, write_answers

FOLDS = 5
COMPONENTS = 256
EPOCHS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("votes")
    parser.add_argument(
        "start",
        help="pretrained weights of `faceres` whose features are taken, as --weights names them (docs/fine-tuning.md)",
    )
    parser.add_argument("answers", type=Path)
    parser.add_argument("models", nargs="*", help="models whose answers are averaged with it, both mirrored views")
    options = parser.parse_args()
    splits = load_dataset(options.data, votes=options.votes).splits
    train = splits["Training"]
    told = dict(zip(splits, known(options, splits), strict=True))
    answers: dict[str, Any] = {
        "Training": np.zeros((len(train), len(train.classes)), np.float32),
        "PublicTest": np.float32(0),
    }
    part = assign_folds(pixel_prints(train.images), train.labels, FOLDS, seed=42)
    for fold in range(FOLDS):
        network = learnt(told["Training"][part != fold], train.labels[part != fold], len(train.classes), seed=fold)
        answers["Training"][part == fold] = network.predict(told["Training"][part == fold], verbose=0)
        answers["PublicTest"] = answers["PublicTest"] + network.predict(told["PublicTest"], verbose=0) / FOLDS
    report("votes and features, out of fold", answers, splits)
    models = [augmented(EmotionClassifier.load(model), "flip") for model in options.models]
    mean = {
        name: geometric_mean([answers[name], *(model.predict_proba(faces.images) for model in models)])
        for name, faces in splits.items()
    }
    report("mean with the models", mean, splits)
    write_answers(options.answers, train, mean["Training"])


def known(options: argparse.Namespace, splits: Mapping[str, FaceSet]) -> list[Any]:
    """What the small network is told of each face of each split: votes and whitened principal components of the features."""
    keras = load_keras()
    train = splits["Training"]
    network = ARCHITECTURES["faceres"](len(train.classes))
    take_weights(network, options.start, faces=train.images)
    body = keras.Model(network.input, network.get_layer("probabilities").input)
    features = [body.predict(faces.images.astype(np.float32), batch_size=128, verbose=0) for faces in splits.values()]
    mean = features[0].mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((features[0] - mean).T))
    axes = vectors[:, ::-1][:, :COMPONENTS] / np.sqrt(values[::-1][:COMPONENTS] + 1e-6)
    with Path(options.votes).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    votes = [np.array([[float(count or 0) for count in row[2:]] for row in rows if row[0] == name]) for name in splits]
    return [
        np.concatenate([counts / 10, np.log1p(counts), (found - mean) @ axes], axis=1).astype(np.float32)
        for counts, found in zip(votes, features, strict=True)
    ]


def learnt(inputs: Any, labels: Any, classes: int, seed: int) -> Any:
    keras = load_keras()
    keras.utils.set_random_seed(seed)
    given = keras.Input(inputs.shape[1:])
    hidden = keras.layers.Dense(256, activation="gelu")(keras.layers.Dropout(0.2)(given))
    network = keras.Model(given, keras.layers.Dense(classes, activation="softmax")(keras.layers.Dropout(0.5)(hidden)))
    network.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05), "sparse_categorical_crossentropy")
    network.fit(inputs, labels, epochs=EPOCHS, batch_size=128, verbose=0)
    return network


def geometric_mean(answers: list[Any]) -> Any:
    mean = np.exp(np.mean([np.log(one + 1e-6) for one in answers], axis=0))
    return (mean / mean.sum(axis=1, keepdims=True)).astype(np.float32)


def report(what: str, answers: dict[str, Any], splits: Mapping[str, FaceSet]) -> None:
    for name, faces in splits.items():
        right = float((answers[name].argmax(axis=1) == faces.labels).mean())
        loss = float(-np.log(answers[name][np.arange(len(faces)), faces.labels] + 1e-6).mean())
        print(f"{what}: {right:.1%} of {name} right, log loss {loss:.3f}")


if __name__ == "__main__":
    main()
