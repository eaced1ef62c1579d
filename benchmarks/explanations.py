"""Whether heatmaps say something about the model: do they change with its weights, and do they point at what matters?

Three checks on faces of PublicTest that have no copy in Training, each explained for the class that the model gives it:

- Adebayo et al. 2018, "Sanity checks for saliency maps": the weights of the network are shuffled, those of its last layer
  or those of every layer, each tensor in itself, and the same faces explained for the same classes. A map that stays as it
  was has not looked at the weights. Figures are rank correlations (Spearman 1904) of maps, the mean over faces.
- How far the two methods agree on a face, and, to compare with, how far the maps of one method agree on different faces.
- Deletion: the 20 % of pixels with the highest values are made black. The model's probability must fall further than
  with a mask of the same shape moved to a random place (around the edges), or with the same number of random pixels.

    python benchmarks/explanations.py fer2013.csv.gz                        # the packaged model, 300 faces: 20 minutes
    python benchmarks/explanations.py fer2013.csv.gz --model runs/mine --faces 100
    python benchmarks/explanations.py fer2013.csv.gz --patches 6 8 12 16    # the deletion check for sizes of patches

Needs the extra `train`. Figures: docs/explain.md.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import ferkit
from ferkit.data.records import pixel_prints
from ferkit.evaluation import Method, Occlusion, open_method
from ferkit.evaluation.explanation_methods import GradCam

Faces = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SHARE = 0.2
ROUNDS = 5  # random masks per face
SHUFFLES = 20  # of the weights, each for a few faces


def ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse], float)


def spearman(first: Floats, second: Floats) -> float:
    a, b = ranks(first), ranks(second)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


def agreement(first: Floats, second: Floats) -> str:
    found = np.array([spearman(*pair) for pair in zip(first, second, strict=True)])
    return f"{found.mean():+.2f} ± {1.96 * found.std(ddof=1) / len(found) ** 0.5:.2f}"


def shuffled(classifier: ferkit.EmotionClassifier, rng: np.random.Generator, last_only: bool) -> Any:
    """The same network with the numbers of each of its weight tensors in random order."""
    copy = ferkit.EmotionClassifier.load(classifier.name, engine="keras")
    model = copy.network.model  # type: ignore[attr-defined]
    for variable in model.layers[-1].weights if last_only else model.weights:
        if variable.dtype.startswith(("float", "bfloat")):
            values = variable.numpy()
            variable.assign(rng.permutation(values.ravel()).reshape(values.shape))
    return copy


def against_shuffled(
    classifier: ferkit.EmotionClassifier,
    faces: Faces,
    classes: npt.NDArray[Any],
    *,
    maps: dict[str, Floats],
    rng: np.random.Generator,
    last_only: bool,
) -> dict[str, str]:
    """Rank correlation of maps with those from shuffled weights, by method.

    Every few faces get a shuffle of their own, and the interval is over shuffles: one network at random draws nearly the
    same map for all faces, which resembles the true ones or does not by luck.
    """
    found: dict[str, list[float]] = {name: [] for name in maps}
    for some in np.array_split(np.arange(len(faces)), min(SHUFFLES, len(faces))):
        other = shuffled(classifier, rng, last_only)
        methods: dict[str, Method] = {"grad-cam": GradCam(other), "occlusion": Occlusion(other)}
        for name, method in methods.items():
            changed = method(faces[some], classes[some]).astype(float)
            found[name].append(float(np.mean([spearman(a, b) for a, b in zip(maps[name][some], changed, strict=True)])))
    return {
        name: f"{np.mean(one):+.2f} ± {1.96 * float(np.std(one, ddof=1)) / SHUFFLES**0.5:.2f}"
        for name, one in found.items()
    }


def highest(maps: Floats, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The pixels with the highest values, (N, h, w); of equal ones any."""
    flat = maps.reshape(len(maps), -1)
    count = round(SHARE * flat.shape[1])
    order = np.lexsort((rng.random(flat.shape), flat), axis=1)
    masks = np.zeros(flat.shape, bool)
    np.put_along_axis(masks, order[:, -count:], True, axis=1)
    return masks.reshape(maps.shape)


def moved(masks: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    height, width = masks.shape[1:]
    shifts = rng.integers(0, [height, width], (len(masks), 2))
    return np.stack([np.roll(mask, tuple(shift), (0, 1)) for mask, shift in zip(masks, shifts, strict=True)])


class Deletion:
    """How far the probability of a class falls when parts of faces turn black, in points."""

    def __init__(self, classifier: Any, faces: Faces, classes: npt.NDArray[Any], rng: np.random.Generator) -> None:
        self.classifier, self.faces, self.classes, self.rng = classifier, faces, classes, rng
        self.whole = self.probability(faces)

    def probability(self, faces: Faces) -> Floats:
        return np.asarray(
            np.asarray(self.classifier.predict_proba(faces), float)[np.arange(len(faces)), self.classes], float
        )

    def falls(self, masks: npt.NDArray[np.bool_]) -> Floats:
        return np.asarray(
            100 * (self.whole - self.probability(np.where(masks[..., None], np.uint8(0), self.faces))), float
        )

    def mean_falls(self, draw: Callable[[], npt.NDArray[np.bool_]]) -> Floats:
        return np.asarray(np.mean([self.falls(draw()) for _ in range(ROUNDS)], axis=0), float)

    def row(self, name: str, maps: Floats) -> str:
        masks = highest(maps, self.rng)
        top = self.falls(masks)
        elsewhere = self.mean_falls(lambda: moved(masks, self.rng))
        scattered = self.mean_falls(lambda: highest(self.rng.random(maps.shape), self.rng))
        parts = [f"{one.mean():.1f}" for one in (top, elsewhere, scattered)]
        for control in (elsewhere, scattered):
            more = top - control
            parts.append(f"{more.mean():+.1f} ± {1.96 * more.std(ddof=1) / len(more) ** 0.5:.1f}")
        return f"| {name} | {' | '.join(parts)} | {np.mean(top > elsewhere):.0%} |"


HEAD = (
    "| method | most important 20 % | moved elsewhere | random pixels | more than elsewhere | more than random | faces |\n"
    "|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("--model", default="default", help="model folder with model.keras")
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--shuffled", type=int, default=100, help="of these, faces explained with shuffled weights too")
    parser.add_argument("--patches", type=int, nargs="+", help="only compare occlusion with patches of these sizes")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    classifier = ferkit.EmotionClassifier.load(options.model)
    takes = classifier.face_input
    dataset = ferkit.load_dataset(options.data, size=(takes.height, takes.width), channels=takes.channels)
    # Copies of Training faces, which the model knows, stand in PublicTest too.
    held_out = dataset.val.select(~np.isin(pixel_prints(dataset.val.images), pixel_prints(dataset.train.images)))
    faces = held_out.images[np.sort(rng.choice(len(held_out), options.faces, replace=False))]
    classes = classifier.predict_proba(faces).argmax(axis=1)
    deletion = Deletion(classifier, faces, classes, rng)

    if options.patches:
        print(f"{options.model}, {len(faces)} faces of {held_out.name}. Fall of the probability, in points:\n\n{HEAD}")
        for patch in options.patches:
            found = Occlusion(classifier, patch=patch)(faces, classes)
            print(deletion.row(f"occlusion, patch {patch}", found.astype(float)), flush=True)
        return

    names = ("grad-cam", "occlusion")
    maps = {name: open_method(classifier, name)(faces, classes).astype(float) for name in names}
    print(f"{options.model}, {len(faces)} faces of {held_out.name}. Fall of the probability, in points:\n\n{HEAD}")
    for name in names:
        print(deletion.row(name, maps[name]), flush=True)

    print("\nRank correlation of maps, -1 to 1:\n\n| compared | rank correlation |\n|---|---|")
    print(f"| grad-cam and occlusion, the same face | {agreement(maps['grad-cam'], maps['occlusion'])} |")
    for name in names:
        print(f"| {name}, a face and another one | {agreement(maps[name], np.roll(maps[name], 1, axis=0))} |")
    for last_only, what in ((True, "last layer"), (False, "all layers")):
        for name, words in against_shuffled(
            classifier, faces[: options.shuffled], classes, maps=maps, rng=rng, last_only=last_only
        ).items():
            print(f"| {name}, weights and shuffled ones: {what} | {words} |", flush=True)


if __name__ == "__main__":
    main()
