"""Measure models on one split and write `benchmarks/LEADERBOARD.md`: the one place where our figures stand.

    python benchmarks/leaderboard.py fer2013.csv.gz runs/tutorial runs/better

Rows of models that are not named again are kept, so the table grows; a model measured again replaces its row.
"""

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import ferkit
from ferkit import model_folder
from ferkit.files import write_atomically
from ferkit.recipes import RECIPES

ROWS = Path(__file__).with_name("leaderboard.json")
PAGE = Path(__file__).with_name("LEADERBOARD.md")

INTRODUCTION = """# Leaderboard

Every figure was written by the command in its row, none by hand. Accuracy is on **{split}** of FER-2013 (n = {n:,}),
the split on which epoch and temperature were chosen, with its 95 % Wilson interval; human agreement on these labels is
65 +- 5 % (Goodfellow et al. 2013). PrivateTest, which nothing was chosen on, is measured apart.

- *distinct*: accuracy over faces whose pixels stand neither in Training nor twice in the split.
- *ECE*: expected calibration error over 15 bins, before and after the temperature in the card.
- *ms/face*: median over 200 single faces through ONNX Runtime on one thread, without decoding and detection.

| model | parameters | multiply-adds | accuracy | distinct | macro-F1 | log loss | ECE | ms/face | training | date |
|---|---|---|---|---|---|---|---|---|---|---|
"""

COMMANDS = """
## How each row was made

All from the root of a clone, after `make test` has set up `.venv`; `DATA` is FER-2013 as a file, CSV or any layout
that `ferkit data` reads.

| model | trained with | measured with | trained on | commit |
|---|---|---|---|---|
"""


def measure(model: str, data: ferkit.Dataset, split: str) -> dict[str, Any]:
    classifier = ferkit.EmotionClassifier.load(model)
    report = ferkit.evaluate(classifier, data.split(split))
    card = classifier.card
    training, recipe = card["training"], card["training"]["recipe"]
    sitting = training["sittings"][0]
    distinct = report.without_duplicates
    name = Path(model).name
    return {
        "model": name,
        "split": report.split,
        "n": report.n,
        "parameters": card["parameters"],
        "multiply_adds": card["multiply_adds"],
        "accuracy": report.accuracy,
        "accuracy_ci95": list(report.accuracy_ci95),
        "distinct_accuracy": distinct.accuracy if distinct else None,
        "distinct_n": distinct.n if distinct else None,
        "macro_f1": report.macro_f1,
        "nll": report.nll,
        "ece_uncalibrated": card["metrics"]["ece_uncalibrated"],
        "ece": report.ece,
        "ms_per_face": milliseconds_per_face(model_folder.find(model) / model_folder.ONNX_FILE, report.faces.images),
        "minutes": training["seconds"] / 60,
        "epochs": training["epochs_done"],
        "seed": recipe["seed"],
        "date": datetime.date.today().isoformat(),
        "backend": f"{sitting['backend']}, {sitting['cpu_count']} CPU cores",
        "commit": (sitting["commit"] or "")[:10],
        "train_command": train_command(name, recipe),
        "measure_command": f"python benchmarks/leaderboard.py DATA runs/{name}",
    }


def train_command(name: str, recipe: dict[str, Any]) -> str:
    """The command that trains this model: its recipe, and the options in which the card differs from it."""
    usual = RECIPES[name].config.to_dict()
    options = [f" --{key.replace('_', '-')} {value}" for key, value in recipe.items() if value != usual[key]]
    return f"ferkit train DATA --recipe {name}{''.join(options)} --out runs/{name}"


def milliseconds_per_face(onnx_file: Path, faces: Any) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    times = []
    for face in np.asarray(faces[:220])[:, None]:
        started = time.perf_counter()
        session.run(None, {name: face})
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[20:])


def page(rows: list[dict[str, Any]]) -> str:
    text = INTRODUCTION.format(split=rows[0]["split"], n=rows[0]["n"])
    for row in rows:
        low, high = (100 * value for value in row["accuracy_ci95"])
        text += (
            f"| `{row['model']}` | {row['parameters']:,} | {row['multiply_adds'] / 1e6:.1f} M "
            f"| **{100 * row['accuracy']:.2f} %** ({low:.1f} to {high:.1f}) | {100 * row['distinct_accuracy']:.2f} % "
            f"(n = {row['distinct_n']:,}) | {row['macro_f1']:.3f} | {row['nll']:.3f} "
            f"| {row['ece_uncalibrated']:.3f} -> {row['ece']:.3f} | {row['ms_per_face']:.2f} "
            f"| {row['epochs']} epochs, {row['minutes']:.0f} min, seed {row['seed']} | {row['date']} |\n"
        )
    text += COMMANDS
    for row in rows:
        text += (
            f"| `{row['model']}` | `{row['train_command']}` | `{row['measure_command']}` "
            f"| {row['backend']} | `{row['commit']}` |\n"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("models", nargs="+", help="model folders, named as their recipe")
    parser.add_argument("--split", default="PublicTest", help="default: %(default)s")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data)
    rows = {row["model"]: row for row in json.loads(ROWS.read_text())} if ROWS.is_file() else {}
    for model in options.models:
        row = measure(model, data, options.split)
        rows[row["model"]] = row
        print(f"{row['model']}: {100 * row['accuracy']:.2f} % of {row['split']}, {row['ms_per_face']:.2f} ms per face")
    ranked = sorted(rows.values(), key=lambda row: -row["accuracy"])
    with write_atomically(ROWS) as draft:
        draft.write_text(json.dumps(ranked, indent=2) + "\n")
    with write_atomically(PAGE) as draft:
        draft.write_text(page(ranked))


if __name__ == "__main__":
    main()
