"""Are the suspects of `ferkit data --suspects` wrongly labelled? FER+ asked ten people about each face of FER-2013.

    python benchmarks/suspects.py fer2013.csv.gz fer2013new.csv --predictions default
    python benchmarks/suspects.py fer2013.csv.gz fer2013new.csv --folds-in runs/suspects --quick

Of the first N suspects it counts on how many the voters' first choice is another class than the label, against the same
over all faces, and on how many it is the class that was suggested. The first command looks at PublicTest with a model
that was not trained on it (though chosen on it, and taught by votes on the Training faces); the second at all faces, with
networks that know the labels only, so that the voters are outsiders to them.
"""

import argparse
from pathlib import Path

import numpy as np

import ferkit
from ferkit.data.records import FaceSet, pixel_prints
from ferkit.evaluation.metrics import wilson_interval
from ferkit.training.label_issues import RECIPE, Plan, Suspects, find_suspects, label_margins, out_of_fold
from methods import BASE

COUNTS = (50, 100, 250, 500, 1000, 2500, 5000)
# Small enough for minutes on two cores; `ferkit data --suspects` trains a larger network for longer.
QUICK = Plan(folds=3, recipe=BASE.changed(epochs=8))


def report(suspects: Suspects) -> None:
    faces = suspects.faces
    if faces.votes is None:
        raise SystemExit("The faces have no votes.")
    clear = faces.has_first_choice
    seen = faces.votes.argmax(axis=1)
    another = clear & (seen != faces.labels)
    base = float(another[clear].mean())
    print(f"{faces.name}: {len(faces):,} faces, {clear.sum():,} with a first choice of the voters; by {suspects.by}")
    print(
        f"right about {suspects.accuracy:.1%} of the labels; estimates that {suspects.wrong_share:.1%} of them are wrong"
    )
    print("| most suspicious | voters see another class | 95 % interval | and the suggested one | label has no vote |")
    print("|---|---|---|---|---|")
    for count in (*[n for n in COUNTS if n < len(suspects)], len(suspects)):
        first, suggested = suspects.indices[:count], suspects.suggested[:count]
        known = clear[first]
        wrong, n = int(another[first].sum()), int(known.sum())
        agreed = int((seen[first] == suggested)[known].sum())
        without = int((faces.votes[first, faces.labels[first]] == 0)[known].sum())
        low, high = wilson_interval(wrong, n)
        print(f"| {count:,} | {wrong / n:.1%} | {low:.1%} to {high:.1%} | {agreed / n:.1%} | {without / n:.1%} |")
    no_vote = (faces.votes[np.arange(len(faces)), faces.labels] == 0)[clear].mean()
    print(f"| all {len(faces):,} faces | {base:.1%} | | | {no_vote:.1%} |")
    ranks = np.argsort(label_margins(suspects.probabilities, faces.labels), kind="stable")
    print(f"area under the ROC curve of the margin: {_auc(another[ranks][clear[ranks]]):.3f}")


def _auc(wrong_first: np.ndarray) -> float:
    """How often a wrongly labelled face stands before a rightly labelled one."""
    right_before = np.cumsum(~wrong_first)[wrong_first]
    return 1 - float(right_before.mean()) / int((~wrong_first).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013 as CSV")
    parser.add_argument("votes", help="FER+ votes")
    parser.add_argument("--predictions", nargs="+", help="models; looks at PublicTest")
    parser.add_argument("--folds-in", type=Path, help="run folder of the folds; looks at all faces")
    parser.add_argument("--quick", action="store_true", help="a small network, eight epochs")
    options = parser.parse_args()

    dataset = ferkit.load_dataset(options.data, votes=options.votes)
    if options.predictions:
        model = ferkit.Ensemble(options.predictions)
        faces: FaceSet = dataset.split("PublicTest")
        seen = np.isin(pixel_prints(faces.images), pixel_prints(dataset.train.images))
        faces = faces.select(~seen)  # copies of Training faces, which the model knows
        probabilities, by = model.predict_proba(faces.images), model.name
    else:
        faces = dataset.split("all")
        plan = QUICK if options.quick else Plan(recipe=RECIPE)
        probabilities = out_of_fold(faces, options.folds_in or Path("runs/suspects"), plan=plan, say=print)
        by = "networks trained on other folds"
    report(find_suspects(faces, probabilities, [""] * len(faces), by))


if __name__ == "__main__":
    main()
