"""Out-of-fold probabilities: each fold of the faces is predicted by a network that was trained on the others.

The folds live in one folder: `folds.json` says of which faces, `fold-1/` and so on are ordinary training runs, and
`fold-1.npy` holds what the first network predicts for its fold. Killed at any moment it goes on where it was, and what
is done is not done again. `out-of-fold.npz` makes one classifier of the networks when all are trained, see
`ferkit.models.OutOfFold`.

Folds are the referee between recipes: paired answers to all training faces tell smaller differences apart than those
to the few of a held-out split, and that stays untouched.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ferkit._support.files import blame, write_atomically
from ferkit.data import HELD_OUT_OF_TRAINING, SPLITTER, Dataset, FaceSet, assign_folds, hold_out, pixel_prints
from ferkit.errors import DatasetError, TrainingError, UsageError, count
from ferkit.evaluation import Comparison, Report, check_options, compare, evaluate
from ferkit.models import OutOfFold, model_folder, write_folds
from ferkit.training import run_folder
from ferkit.training.config import RECIPES, TrainConfig, recipe_of
from ferkit.training.experiments import HERE, Experiment, Say, Where, never_stop
from ferkit.training.start import Data, config_of, load_data

FOLDS = 3
FOLDS_FILE = "folds.json"
# Few epochs: the question is which labels the other faces speak against, not what could be reached in the end. AdamW,
# for it learns from a few hundred faces as well, where an average of the weights would still hold the first of them.
RECIPE = RECIPES["better"].config.changed(model="compact", epochs=12, label_smoothing=0.05)


@dataclass(frozen=True)
class FoldPlan:
    """How the folds are made. None keeps what the folds have that are there already, else takes the defaults.

    epochs: in place of the recipe's.
    """

    folds: int | None = None
    epochs: int | None = None
    recipe: TrainConfig | None = None

    def __post_init__(self) -> None:
        if self.folds is not None and self.folds < 2:
            raise UsageError(f"folds must be at least 2. Received: {self.folds}.")
        _ = self.full_recipe  # says what is wrong with the epochs

    @property
    def full_recipe(self) -> TrainConfig:
        """What networks are trained by if there is no fold yet. Raises `UsageError` for epochs that cannot be."""
        return (self.recipe or RECIPE).changed(**({} if self.epochs is None else {"epochs": self.epochs}))


def out_of_fold(
    faces: FaceSet,
    folder: Path,
    *,
    plan: FoldPlan | None = None,
    where: Where = HERE,
    say: Say | None = None,
) -> npt.NDArray[np.float32]:
    """Calibrated probabilities of all faces, float32 (N, K), each by a network that saw neither it nor a copy of it.

    The network of a fold is chosen, and its temperature fitted, on a tenth of the other folds, so the labels of its own
    fold play no part. Faces with identical pixels are in the same fold; copies that were scaled or cut otherwise are
    not found.

    Args:
        faces: labelled faces, votes are not used.
        folder: where networks and answers are kept. A second call takes them from there.
        plan: how many folds, by which recipe; None takes what is there, or the defaults.
        where: where the networks are trained.
        say: told what happens; None trains without a word.

    Raises:
        TrainingError: the folder holds folds of other faces or other values, or is in use. DatasetError: too few faces.
    """
    # The labels are in question, so it is they that are learned.
    return _answers(replace(faces, votes=None, voted=None), folder, plan or FoldPlan(), where, say)


def _answers(faces: FaceSet, folder: Path, plan: FoldPlan, where: Where, say: Say | None) -> npt.NDArray[np.float32]:
    """Train what is not trained yet, and gather the answers; with votes in the faces they are learned as in `train`."""
    tell = say or (lambda text: None)
    where.check()
    if not (folder / FOLDS_FILE).is_file():  # so that what is refused leaves no folder
        _check(faces, plan.folds or FOLDS)
    with run_folder.alone(folder, "training of folds"):
        recipe, folds = _agreed(folder, faces, plan)
        if recipe.changed(epochs=RECIPE.epochs) != RECIPE and plan.recipe is None:
            tell(f"The folds in {folder} were begun with another recipe than the usual one, and go on with it.")
        fold_of = assign_folds(faces.inseparable, faces.strata, folds, recipe.seed)
        answers = {
            fold: stored
            for fold in range(folds)
            if (stored := _stored(_kept(folder, fold), (int((fold_of == fold).sum()), len(faces.classes)))) is not None
        }

        def to_do() -> Iterator[Experiment]:
            for fold in range(folds):
                if fold not in answers:
                    members = count(int((fold_of == fold).sum()), "face")
                    tell(f"Fold {fold + 1} of {folds}: {members}, by a network trained on the others.")
                    yield _experiment(faces, fold_of, fold, recipe, folder)

        with closing(where.runs(to_do(), never_stop, say=say)) as outcomes:
            for outcome in outcomes:
                one, fold = outcome.experiment, outcome.experiment.number - 1
                if outcome.why is not None:
                    raise TrainingError(f"{one.name} could not be trained: {outcome.why}")
                answers[fold] = one.classifier.predict_proba(np.ascontiguousarray(faces.images[fold_of == fold]))
                with write_atomically(_kept(folder, fold), TrainingError) as draft:
                    np.save(draft, answers[fold])
        members = [f"fold-{fold + 1}" for fold in range(folds)]
        write_folds(folder, faces, fold_of, members)
        if all((folder / one / "votes" / model_folder.CARD_FILE).is_file() for one in members):
            (folder / "votes").mkdir(exist_ok=True)
            write_folds(folder / "votes", faces, fold_of, [f"../{one}/votes" for one in members])
    probabilities = np.zeros((len(faces), len(faces.classes)), np.float32)
    for fold, found in answers.items():
        probabilities[fold_of == fold] = found
    return probabilities


@dataclass(frozen=True)
class FoldRun:
    """The folds of a recipe. report: on the training split, each face by the network that did not see it."""

    folder: Path
    report: Report


def train_folds(
    data: Data,
    recipe: str | TrainConfig,
    folds: int,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    where: Where = HERE,
    say: Say | None = None,
    **changes: Any,
) -> FoldRun:
    """Train a recipe once without each fold of the training split, into `out/fold-N`; held-out splits are not looked at.

    The folder is a model: it answers each training face out of fold, and other faces by the mean of its networks.

    Args:
        data: Faces with a training split, or the path of such data.
        recipe: Name of a recipe, or a `TrainConfig`.
        folds: How many.
        out: The folder of all runs; None takes `runs/<recipe>-folds`.
        resume: Go on with what is there.
        where: On which engine, and how many at once.
        say: Told what happens; None trains without a word.
        **changes: Values of `TrainConfig` to change, e.g. `epochs=10`.

    Raises:
        UsageError: Choices or values that make no sense.
        TrainingError: The folder is taken, in use, or holds other folds, or a run failed.
        DatasetError: There are too few faces of a class.
    """
    plan = FoldPlan(folds, recipe=config_of(recipe, changes))
    folder = Path(out or Path("runs") / f"{recipe if isinstance(recipe, str) else 'custom'}-folds")
    if (there := (folder / FOLDS_FILE).is_file()) and not resume:
        raise TrainingError(f"{folder} holds folds already. Go on with --resume, or choose another --out.")
    if resume and not there:
        raise TrainingError(f"{folder} holds no folds: nothing to resume. Start them without --resume.")
    where.check()
    faces = load_data(data).train
    _answers(faces, folder, plan, where, say)
    return FoldRun(folder, evaluate(OutOfFold.load(folder), faces))


def compare_recipes(
    a: str,
    b: str,
    data: Data,
    folds: int,
    *,
    out: str | Path = "runs/compare",
    truth: str = "labels",
    where: Where = HERE,
    say: Say | None = None,
) -> Comparison:
    """Compare two recipes by paired out-of-fold answers to all training faces; differences are B minus A.

    Both are trained on the same folds, into `out/a` and `out/b`. A second call goes on with what is there.

    Args:
        a: A recipe with changes, e.g. "strong epochs=30 mixup=0.4".
        b: The recipe to compare it with.
        data: Faces with a training split, or the path of such data.
        folds: How many.
        out: The folder of both.
        truth: "labels", or "votes": the FER+ majority label, which the heads on votes answer where both recipes have them.
        where: On which engine, and how many at once.
        say: Told what happens; None trains without a word.

    Raises:
        UsageError, TrainingError, DatasetError: As `train_folds`.
    """
    check_options(tta=None, truth=truth)
    plans = [FoldPlan(folds, recipe=config_of(*recipe_of(one))) for one in (a, b)]
    where.check()
    faces = load_data(data).train
    folders = [Path(out) / name for name in ("a", "b")]
    for folder, plan in zip(folders, plans, strict=True):
        if say:
            say(f"Recipe {folder.name.upper()}, in {folder}:")
        _answers(faces, folder, plan, where, say)
    heads = [folder / "votes" for folder in folders]
    if truth == "votes" and all(head.is_dir() for head in heads):
        folders = heads
    first, second = (OutOfFold.load(folder) for folder in folders)
    first.name, second.name = a, b  # a reader wants to know what was compared, not where it lies
    return compare(first, second, faces, truth=truth)


def _kept(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold + 1}.npy"


def _experiment(
    faces: FaceSet, fold_of: npt.NDArray[np.int64], fold: int, recipe: TrainConfig, folder: Path
) -> Experiment:
    """A network that is trained, and whose epoch is chosen, on the other folds."""
    others = faces.select(np.flatnonzero(fold_of != fold))
    # The tenth on which the epoch is chosen holds no copy of what is trained on.
    tenth = hold_out(others.inseparable, others.strata, HELD_OUT_OF_TRAINING, recipe.seed)
    splits = {"train": others.select(~tenth, "train"), "val": others.select(tenth, "val")}
    drawn = {"split": f"without fold {fold + 1}", "seed": recipe.seed, "held_out": HELD_OUT_OF_TRAINING}
    dataset = Dataset(
        splits,
        faces.classes,
        f"{faces.name} without fold {fold + 1}",
        _print_of(faces, str(fold)),
        split_by={**drawn, "faces": len(others), "splitter": SPLITTER},
    )
    name = f"Fold {fold + 1}"
    return Experiment(dataset, recipe, folder / f"fold-{fold + 1}", number=fold + 1, name=name)


def _agreed(folder: Path, faces: FaceSet, plan: FoldPlan) -> tuple[TrainConfig, int]:
    """Recipe and number of folds: those of the folds that are there, else as planned, which is written down."""
    path, data = folder / FOLDS_FILE, _print_of(faces)
    if not path.is_file():
        recipe, folds = plan.full_recipe, plan.folds or FOLDS
        run_folder.write_json(path, {"data": data, "folds": folds, "splitter": SPLITTER, "recipe": recipe.to_dict()})
        return recipe, folds
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        recipe, folds = TrainConfig.from_dict(stored["recipe"]), int(stored["folds"])
        same = stored["data"] == data
        if stored.get("splitter") != SPLITTER:
            raise ValueError("its faces were assigned to folds in another way")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TrainingError(
            f"{path} cannot be read ({problem}). Remove {folder}, or choose another folder."
        ) from problem
    if not same:
        raise TrainingError(f"{folder} holds folds of other faces or votes. Choose another folder, or remove it.")
    asked: dict[str, Any] = {"folds": plan.folds, "epochs": plan.epochs}
    there = {"folds": folds, "epochs": recipe.epochs}
    if differing := [name for name, value in asked.items() if value is not None and value != there[name]]:
        raise TrainingError(
            f"{folder} was begun with other values: {', '.join(f'--{n} {there[n]}' for n in differing)}. "
            "Ask without them, or choose another folder."
        )
    if plan.recipe is not None and plan.full_recipe != recipe:
        raise TrainingError(f"{folder} was begun with another recipe. Choose another folder, or remove it.")
    return recipe, folds


def _check(faces: FaceSet, folds: int) -> None:
    """Refuse faces of which a class would be missing from what a network is trained on."""
    different = np.unique(pixel_prints(faces.images), return_index=True)[1]
    counts = np.bincount(faces.labels[different], minlength=len(faces.classes))
    few = [name for name, n in zip(faces.classes, counts, strict=True) if 0 < n < max(folds, 3)]
    if few or len(faces) == 0:
        raise DatasetError(
            f"{folds} folds need at least {max(folds, 3)} different faces of every class. Too few have: "
            f"{', '.join(few) or 'all, for there is no face'}. Name models that have not seen the faces with --predictions, or gather more."
        )


def _stored(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Answers that were written down, if they are whole."""
    try:
        with blame(path, TrainingError):
            answers: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (TrainingError, ValueError, EOFError):
        return None
    return answers if answers.shape == shape and answers.dtype == np.float32 else None


def _print_of(faces: FaceSet, more: str = "") -> str:
    """SHA-256 over pixels, labels, classes, and votes where there are any, hex."""
    digest = hashlib.sha256(repr((faces.images.shape[1:], faces.classes, more)).encode())
    digest.update(pixel_prints(faces.images).astype("<u8").tobytes())
    digest.update(faces.labels.astype("<i8").tobytes())
    if faces.votes is not None:
        digest.update(faces.votes.astype("<f4").tobytes())
    return digest.hexdigest()
