r"""Measure models on one split and write `benchmarks/LEADERBOARD.md`: the one place where our figures stand.

    python benchmarks/leaderboard.py fer2013.csv.gz runs/tutorial runs/strong-1 runs/strong-2 \
        --votes ferplus.csv --ensemble pair=runs/strong-1,runs/strong-2

Runs that differ in the seed alone become one row. With --ferplus, models are measured in the second track, FER+ as the
literature has it: eight classes by majority. Models that are not named again are kept, so the table grows; one
that is measured again replaces its figures. Without a model, the page is written anew from what is known.
"""

import argparse
import dataclasses
import datetime
import json
import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ferkit
from _shared import HERE, cost_of, options_of
from ferkit._support.files import write_atomically
from ferkit.evaluation.report import Report, measure
from ferkit.models import apply_temperature, fit_temperature, model_folder
from ferkit.models.engines import onnx_network
from ferkit.models.tta import TTA
from ferkit.sources.images import FaceInput
from ferkit.training.config import FORMER_NAMES, RECIPES, TrainConfig, to_args
from leaderboard_page import page

ROWS = HERE / "leaderboard.json"
PAGE = HERE / "LEADERBOARD.md"

COVERAGE = 0.8


@dataclass(frozen=True)
class Training:
    """How a model came about: a recipe, the words that make it another, and the seed.

    data: what the card says of the data it was trained on.
    """

    recipe: str
    options: tuple[str, ...]
    seed: int
    data: Mapping[str, Any]

    @classmethod
    def of(cls, card: Mapping[str, Any], folder: str) -> "Training":
        """From the card of a model in a folder of this name."""
        training = card["training"]
        config = config_of(training["recipe"])
        recipe = training.get("recipe_name") or folder
        if recipe not in RECIPES:
            # Told in full either way; from the recipe that is nearest, it is told in the fewest words.
            recipe = min(RECIPES, key=lambda name: len(_options(config, name)))
        return cls(recipe, tuple(_options(config, recipe)), config.seed, training["data"])

    def command(self, out: str = "", *, seed: bool = True, faces: int | None = None) -> str:
        """As one line. seed: whether it says the seed. faces: how many there are to train on, if some were dropped."""
        words = ["ferkit", "train", "DATA", "--recipe", self.recipe, *self.options]
        trained = {name.lower(): count for name, count in self.data["faces"].items()}
        if "train" in trained:
            words += ["--split", "random"]
        if faces is not None and trained.get("training", faces) < faces:
            words += ["--drop-duplicates"]
        if self.data.get("votes"):
            words += ["--votes", "VOTES"]
        if seed and self.seed != RECIPES[self.recipe].config.seed:
            words += ["--seed", str(self.seed)]
        return shlex.join(words + (["--out", out] if out else []))


def config_of(stored: Mapping[str, Any]) -> TrainConfig:
    """The config in a card, whichever version wrote it: values that came later were off, those that are gone say nothing."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    parts = {field.name for field in dataclasses.fields(TrainConfig().augmentation)}
    values = {FORMER_NAMES.get(name, name): value for name, value in stored.items()}
    values = {name: value for name, value in values.items() if name in known}
    values["augmentation"] = {name: value for name, value in stored["augmentation"].items() if name in parts}
    return TrainConfig.from_dict(values)


def _options(config: TrainConfig, recipe: str) -> list[str]:
    usual = RECIPES[recipe].config
    return to_args(dataclasses.replace(config, seed=usual.seed), usual)


def folder_name(model: Path) -> str:
    """A run's folder by its name; a second model inside a run by both names, as in `mine/votes`."""
    inside = (model.parent / "config.json").is_file()
    return f"{model.parent.name}/{model.name}" if inside else model.name


@dataclass
class Answers:
    """What models answer on the data, each asked once: ensembles are made of the answers of their members."""

    data: str
    votes: str | None
    _known: dict[tuple[str, str, str | None], Report] = field(default_factory=dict)

    def faces(self, takes: FaceInput, split: str) -> ferkit.FaceSet:
        size = (takes.height, takes.width)
        return ferkit.load_dataset(self.data, votes=self.votes, size=size, channels=takes.channels).split(split)

    def of(self, model: str, split: str, tta: str | None = None) -> Report:
        if (model, split, tta) not in self._known:
            classifier = ferkit.EmotionClassifier.load(model)
            faces = self.faces(classifier.face_input, split)
            self._known[model, split, tta] = ferkit.evaluate(classifier, faces, tta=tta)
        return self._known[model, split, tta]


@dataclass(frozen=True)
class Remembered:
    """A member of an ensemble that has answered already."""

    report: Report
    face_input: FaceInput = field(default_factory=FaceInput)

    @property
    def name(self) -> str:
        return self.report.model

    @property
    def classes(self) -> tuple[str, ...]:
        return self.report.classes

    def predict_proba(self, faces: Any, /) -> Any:
        return self.report.probabilities


def together(reports: list[Report], temperature: float = 1.0) -> Report:
    """What an ensemble would have answered."""
    faces = reports[0].faces
    ensemble = ferkit.Ensemble([Remembered(one) for one in reports], temperature=temperature)
    return measure(ensemble.predict_proba(faces.images), faces, model="", seconds=0)


def figures(plain: Report, uncalibrated: Report, views: dict[str, Report]) -> dict[str, Any]:
    """What every row has; `uncalibrated`: the same answers before the temperature."""
    distinct = plain.without_duplicates
    return {
        "split": plain.split,
        "n": plain.n,
        "accuracy": plain.accuracy,
        "distinct_accuracy": distinct.accuracy if distinct else None,
        "distinct_n": distinct.n if distinct else None,
        "macro_f1": plain.macro_f1,
        "surest": plain.accuracy_at_coverage(COVERAGE),
        "nll": plain.nll,
        "ece_uncalibrated": uncalibrated.ece,
        "ece": plain.ece,
        "tta": {name: {"accuracy": one.accuracy, "macro_f1": one.macro_f1} for name, one in views.items()},
        "voters": by_voters(plain),
        "date": datetime.date.today().isoformat(),
    }


def by_voters(report: Report) -> dict[str, Any] | None:
    """The same answers against what voters saw in the faces that have a first choice."""
    if report.faces.votes is None:
        return None
    kept, _ = report.faces.by_votes()
    scores = measure(report.probabilities[report.faces.has_first_choice], kept, model=report.model, seconds=0)
    return {"n": scores.n, "accuracy": scores.accuracy, "macro_f1": scores.macro_f1}


def measured_run(model: str, answers: Answers, split: str, timed: bool) -> dict[str, Any]:
    classifier = ferkit.EmotionClassifier.load(model)
    card, path = classifier.card, model_folder.find(model)
    name = folder_name(Path(model))
    plain = answers.of(model, split)
    hot = apply_temperature(plain.probabilities, 1 / classifier.temperature)
    uncalibrated = measure(hot, plain.faces, model="", seconds=0)
    training = Training.of(card, name)
    sitting = (card["training"].get("sittings") or [{}])[0]
    everyone = len(answers.faces(classifier.face_input, "train")) if "Training" in training.data["faces"] else None
    return {
        "name": name,
        **figures(plain, uncalibrated, {tta: answers.of(model, split, tta) for tta in TTA}),
        "seed": training.seed,
        "parameters": card["parameters"],
        "multiply_adds": card["multiply_adds"],
        "float32": served(path / model_folder.ONNX_FILE, plain.faces.images, timed),
        "int8": int8(path, answers, split, timed),
        "minutes": card["training"]["seconds"] / 60,
        "epochs": card["training"]["epochs_done"],
        "backend": f"{sitting.get('backend', '?')}, {sitting.get('cpu_count', '?')} CPU cores",
        "commit": (sitting.get("commit") or "")[:10],
        "train_command": training.command(f"runs/{name.removesuffix('/votes')}", faces=everyone),
        # Runs that agree in this are one row.
        "row": row_of(model, name, training, everyone),
    }


def row_of(model: str, name: str, training: Training, everyone: int | None) -> str:
    """What runs of one row agree in: all but the seed. The packaged model has a row to itself, being a copy of a run."""
    if model == model_folder.FER2013:
        return model
    return training.command(seed=False, faces=everyone) + ("/votes" if name.endswith("/votes") else "")


def int8(folder: Path, answers: Answers, split: str, timed: bool) -> dict[str, Any] | None:
    """The same for the network in eight bits, where the folder has it."""
    file = folder / model_folder.INT8_FILE
    if not file.is_file():
        return None
    report = answers.of(str(file), split)
    return {"accuracy": report.accuracy, **(served(file, report.faces.images, timed) or {})}


def served(onnx_file: Path, faces: Any, timed: bool) -> dict[str, Any] | None:
    """Size and speed of a serving copy: one face at a time on one thread."""
    if not onnx_file.is_file():
        return None
    known: dict[str, Any] = {"bytes": onnx_file.stat().st_size, "ms_per_face": None}
    if timed:
        network = onnx_network(onnx_file, threads=1)
        times = [cost_of(partial(network, face)).seconds for face in np.asarray(faces[:220])[:, None]]
        known["ms_per_face"] = 1000 * statistics.median(times[20:])
    return known


def measured_ensemble(name: str, members: list[str], answers: Answers, split: str) -> dict[str, Any]:
    """Temperature as for single models: fitted on the validation split."""
    held_out = together([answers.of(one, "val") for one in members])
    temperature = fit_temperature(held_out.probabilities, held_out.faces.labels)
    asked = [answers.of(one, split) for one in members]
    views = {tta: together([answers.of(one, split, tta) for one in members]) for tta in TTA}
    return {
        "name": name,
        "members": [folder_name(Path(one)) for one in members],
        "temperature": temperature,
        **figures(together(asked, temperature), together(asked), views),
    }


def measured_on_ferplus(model: str, data: str, votes: str, split: str) -> dict[str, Any]:
    """A model in the track of FER+; contempt counts as wrong where it is not among its classes."""
    classifier = ferkit.EmotionClassifier.load(model)
    takes = classifier.face_input
    size = (takes.height, takes.width)
    faces = ferkit.load_dataset(data, votes=votes, truth="ferplus", size=size, channels=takes.channels).split(split)
    absent = {name: "" for name in faces.classes if name not in classifier.classes}
    report = ferkit.evaluate(classifier, faces, label_map=absent or None)
    known = classifier.card.get("training", {}).get("recipe")
    name = folder_name(Path(model))
    return {
        "name": name,
        "track": "ferplus",
        "split": faces.name,
        "n": len(faces),
        "accuracy": report.accuracy * report.n / len(faces),
        "known_n": report.n,
        "known_accuracy": report.accuracy,
        "macro_f1": report.macro_f1,
        "ece": report.ece,
        "parameters": classifier.card.get("parameters"),
        "train_command": ferplus_command(classifier.card, name) if known and not absent else None,
        "date": datetime.date.today().isoformat(),
    }


def ferplus_command(card: Mapping[str, Any], name: str) -> str:
    return Training.of(card, name).command(f"runs/{name.removesuffix('/votes')}") + " --truth ferplus"


def kept_times(row: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Without timing, what was timed before stands as long as the file is as large."""
    for kind in ("float32", "int8"):
        now, then = row.get(kind), (before or {}).get(kind)
        if now and then and now["ms_per_face"] is None and now["bytes"] == then["bytes"]:
            now["ms_per_face"] = then["ms_per_face"]


def ensemble_of(text: str) -> tuple[str, list[str]]:
    name, equals, members = text.partition("=")
    if not (name and equals and len(members.split(",")) > 1):
        raise argparse.ArgumentTypeError(f"expected NAME=RUN,RUN,... with two runs or more, received {text!r}")
    return name, members.split(",")


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("models", nargs="*", help="model folders")
    parser.add_argument("--split", default="PublicTest", help="default: %(default)s")
    parser.add_argument("--votes", help="FER+ votes: accuracy against what voters saw")
    parser.add_argument("--ensemble", action="append", default=[], type=ensemble_of, metavar="NAME=RUN,RUN,...")
    parser.add_argument("--no-timing", action="store_true", help="keep the times of before: the machine is busy")
    parser.add_argument("--ferplus", action="store_true", help="measure in the track of FER+, which needs --votes")
    options = parser.parse_intermixed_args()  # models may stand behind options
    if options.ferplus and not options.votes:
        parser.error("--ferplus needs --votes")

    answers = Answers(options.data, options.votes)
    known = json.loads(ROWS.read_text()) if ROWS.is_file() else []
    rows = {(row["name"], row["split"], row.get("track")): row for row in known}

    def keep(row: dict[str, Any]) -> None:
        place = row["name"], row["split"], row.get("track")
        kept_times(row, rows.get(place))
        rows[place] = row
        views = ", ".join(f"{name} {100 * one['accuracy']:.2f} %" for name, one in row.get("tta", {}).items())
        print(f"{row['name']}: {100 * row['accuracy']:.2f} % of {row['split']}; {views}", flush=True)
        write(list(rows.values()))  # after each, so that what fails later does not cost it

    if options.ferplus:
        for model in options.models:
            keep(measured_on_ferplus(model, options.data, options.votes, options.split))
        return
    for model in options.models:
        keep(measured_run(model, answers, options.split, timed=not options.no_timing))
    for name, members in options.ensemble:
        keep(measured_ensemble(name, members, answers, options.split))
    write(list(rows.values()))


def write(rows: list[dict[str, Any]]) -> None:
    with write_atomically(ROWS) as draft:
        draft.write_text(json.dumps(rows, indent=2) + "\n")
    with write_atomically(PAGE) as draft:
        draft.write_text(page(rows))


if __name__ == "__main__":
    main()
