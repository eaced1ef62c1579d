"""What each method of training is worth: short runs of one network, several seeds each, and `benchmarks/METHODS.md`.

    python benchmarks/methods.py fer2013.csv.gz --votes fer2013new.csv

Short runs of a small network say which way a method points, not what it gives after a hundred
epochs; regularisation looks worse here than it is. Runs that are done are kept, so it goes on where it was stopped.
"""

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ferkit
from ferkit.models.architectures import architecture
from ferkit.training.config import RECIPES, TrainConfig, as_options
from ferkit.training.loop import train
from ferkit.training.step import LABELS_HEAD
from kept_rows import KeptRows
from machine_limits import processor_name


@architecture
def probe(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> keras.Model:
    """Four convolutions, each halving the size: a fourteenth of the multiply-adds of `compact`, for many short runs."""
    layers = keras.layers
    pixels = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(pixels)
    for filters in (32, 64, 128, 128):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.Activation(activation)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    answer = layers.Dense(num_classes, activation="softmax", dtype="float32", name=LABELS_HEAD)(x)
    return keras.Model(pixels, answer, name="probe")


BASE = RECIPES["better"].config.changed(
    model="probe",
    optimizer="sgd",
    learning_rate=0.02,
    batch_size=64,
    weight_decay=5e-3,
    label_smoothing=0.0,
    precision="bfloat16",
)
STRONG = RECIPES["strong"].config.augmentation
# Name in the table -> values that differ from the base.
METHODS: dict[str, dict[str, Any]] = {
    "base: SGD with Nesterov momentum, cosine": {},
    "AdamW": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 2e-2},
    "Lion": {"optimizer": "lion", "learning_rate": 2e-4, "weight_decay": 1e-1},
    "one-cycle, twice the rate": {"schedule": "onecycle", "learning_rate": 0.04},
    "cosine, twice the rate": {"learning_rate": 0.04},
    "constant rate": {"schedule": "constant"},
    "LeakyReLU": {"activation": "leaky_relu"},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "mixup 0.2": {"mixup": 0.2},
    "CutMix 1.0": {"cutmix": 1.0},
    "stronger augmentation, erasing": {"augmentation": STRONG},
    "weight average 0.98": {"average": 0.98},
    "class weights, power 0.5": {"class_weight": 0.5},
    "class weights, balanced": {"class_weight": 1.0},
    "focal loss, gamma 2": {"focal": 2.0},
    "bootstrapping 0.2": {"bootstrap": 0.2},
    "gradients of 4 batches of 16": {"batch_size": 16, "accumulate": 4},
    "sharpness-aware, rho 0.05": {"sharpness": 0.05},
    "sharpness-aware, two fifths of the epochs": {"sharpness": 0.05, "epochs": 0.4},
    "float32": {"precision": "float32"},
    "votes as targets": {"votes": True},
    "labels foretold from votes, half": {"votes": True, "denoise": 0.5},
    "two heads, half the loss on votes": {"votes": True, "votes_weight": 0.5},
    "taught by the packaged model, half": {"teachers": ("default",), "teacher_share": 0.5},
    # A plateau shows in none of the short runs.
    "five times the epochs, cosine": {"epochs": 5},
    "five times the epochs, step": {"epochs": 5, "schedule": "step"},
    "five times the epochs, plateau": {"epochs": 5, "schedule": "plateau"},
}

INTRODUCTION = """# What each method is worth

`{command}`, on one core of {processors}.

A network of four convolutions (`probe` in the script), {faces:,} faces of Training, {epochs} epochs, measured on PublicTest (n = {n:,}) after the best
epoch. Mean over the seeds of the row, and in brackets the standard deviation of one run; the difference to the base has its
95 % interval (Student's t over the paired seeds), where there are three or more. If that holds 0, nothing is shown; if it does
not, remember that of some twenty such rows one leaves 0 out by chance, that the interval is about chance between seeds only, and
that all are measured on the same faces. Rates were not tuned, neither of the base nor of the other optimizers. Short runs of a
small network say which way a method points, not what it gives after a hundred epochs: what keeps a network from learning by
heart looks worse here than it is. *Time*: of the processor, the start of a run included, against the base with the same seed on
the same kind of processor.

| method | seeds | accuracy | against the base, points | macro-F1 | ECE, uncalibrated | time |
|---|---|---|---|---|---|---|
"""
# Two-sided 95 %, by degrees of freedom.
STUDENT = {2: 4.30, 3: 3.18, 4: 2.78}


def config_of(changes: dict[str, Any], epochs: int, seed: int) -> TrainConfig:
    own = {key: value for key, value in changes.items() if key not in ("votes", "epochs")}
    return BASE.changed(epochs=max(round(epochs * changes.get("epochs", 1)), 1), seed=seed, **own)


def run(data: ferkit.Dataset, config: TrainConfig) -> dict[str, Any]:
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        # Of the processor: what else the machine does must not count.
        started = time.process_time()
        card = train(data, config, out=Path(folder) / "run", quiet=True).classifier.card
        seconds = time.process_time() - started
    scores = card["metrics"]
    measured = {key: scores[key] for key in ("accuracy", "macro_f1", "ece_uncalibrated")}
    return {"seconds": seconds, "processor": processor_name(), **measured}


def page(stored: dict[str, Any]) -> str:
    rows = stored["rows"]
    processors = {one["processor"]: None for runs in rows.values() for one in runs.values() if one["processor"]}
    text = INTRODUCTION.format(**stored["about"], processors=" and of ".join(processors))
    base = rows[next(iter(METHODS))]
    for name in METHODS:
        runs = rows.get(name)
        if not runs:
            continue
        accuracy = [100 * one["accuracy"] for one in runs.values()]
        spread = f" ({statistics.stdev(accuracy):.1f})" if len(accuracy) > 1 else ""
        f1, ece = (statistics.mean(one[key] for one in runs.values()) for key in ("macro_f1", "ece_uncalibrated"))
        text += (
            f"| {name} | {len(runs)} | {statistics.mean(accuracy):.1f} %{spread} | {difference(runs, base)} "
            f"| {f1:.3f} | {ece:.3f} | {relative_time(runs, base)} |\n"
        )
    text += (
        "\nThe values of each row, beside those of `better`. The network is known to the script alone, so they are not a command; "
        "with `--only WORDS` it runs the rows whose name holds these words.\n\n"
    )
    for name, changes in METHODS.items():
        words = as_options(config_of(changes, stored["about"]["epochs"], 42), RECIPES["better"].config)
        votes = " --votes VOTES" if changes.get("votes") else ""
        text += f"- {name}: `{' '.join(words)}{votes}`\n"
    return text


def difference(runs: dict[str, Any], base: dict[str, Any]) -> str:
    paired = [100 * (runs[seed]["accuracy"] - base[seed]["accuracy"]) for seed in runs if seed in base]
    if runs is base or not paired:
        return ""
    mean = statistics.mean(paired)
    # Over two seeds Student's t is 12.7, and an interval says nothing but that.
    if len(paired) < 3:
        return f"{mean:+.1f}"
    reach = STUDENT[min(len(paired) - 1, 4)] * statistics.stdev(paired) / math.sqrt(len(paired))
    return f"{mean:+.1f} ± {reach:.1f}"


def relative_time(runs: dict[str, Any], base: dict[str, Any]) -> str:
    times = [
        one["seconds"] / base[seed]["seconds"]
        for seed, one in runs.items()
        if seed in base and one["processor"] == base[seed]["processor"]
    ]
    return f"{statistics.median(times):.1f}x" if times else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013 as CSV")
    parser.add_argument("--votes", help="FER+ votes; without them their rows are left out")
    parser.add_argument("--faces", type=int, default=28_709, help="training faces; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--only", help="methods whose name holds this word")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data, votes=options.votes)
    some = np.random.default_rng(0).permutation(len(data.train))[: options.faces]
    data = replace(data, splits={**data.splits, "Training": data.train.select(np.sort(some))})
    plain = replace(data, splits={name: replace(faces, votes=None) for name, faces in data.splits.items()})
    command = f"python benchmarks/methods.py DATA --votes VOTES --faces {options.faces} --epochs {options.epochs}"
    about = {
        "command": command,
        "faces": len(data.train),
        "epochs": options.epochs,
        "n": len(data.val),
    }
    kept = KeptRows(__file__, about, page)
    for seed in range(1, options.seeds + 1):
        for name, changes in METHODS.items():
            runs = kept.rows.setdefault(name, {})
            wants_votes = bool(changes.get("votes"))
            if str(seed) in runs or (options.only and options.only not in name) or (wants_votes and not options.votes):
                continue
            runs[str(seed)] = run(data if wants_votes else plain, config_of(changes, options.epochs, seed))
            print(f"seed {seed}, {name}: {100 * runs[str(seed)]['accuracy']:.2f} %", flush=True)
            kept.write()


if __name__ == "__main__":
    main()
