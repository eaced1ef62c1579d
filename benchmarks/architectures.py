"""What each architecture costs: size, time to train, time to answer; and that all of them train on real faces.

    python benchmarks/architectures.py fer2013.csv.gz

Every registered architecture is trained by `better` on a few faces from random weights, exported to ONNX and timed on
one thread. The accuracy after so few faces says nothing; it only shows that the whole way works on real data.
Writes `benchmarks/ARCHITECTURES.md`. Architectures that are done are kept, so it goes on where it was stopped.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ferkit
from ferkit.models.architectures import ARCHITECTURES
from ferkit.training.config import RECIPES
from kept_rows import KeptRows

INTRODUCTION = """# What each architecture costs

`{command}`, on {hardware}.

Each trained by `better`, in bfloat16, from random weights on {faces:,} faces of Training for {epochs} epoch(s). *Training*: processor time
per face, the compilation and all else that a run does included. *ms/face*: median over single faces through ONNX Runtime on
one thread. *Accuracy*, on {n:,} faces of PublicTest, is that of a guess: after so few faces none has learnt anything yet, and
it only shows that the way from faces to a served model works.

| architecture | parameters | multiply-adds | ONNX | training, ms/face | ms/face | accuracy |
|---|---|---|---|---|---|---|
"""


def measured(name: str, data: ferkit.Dataset, epochs: int) -> dict[str, Any]:
    keras.backend.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        config = RECIPES["better"].config.changed(model=name, epochs=epochs, batch_size=32, precision="bfloat16")
        run = ferkit.train(data, config, out=Path(folder) / "run", quiet=True)
        spent = time.process_time() - started
        served = ferkit.EmotionClassifier.load(run.folder, engine="onnx", threads=1)
        card = served.card
        times = []
        for face in data.val.images[:100]:
            begun = time.perf_counter()
            served.predict_proba(face[np.newaxis])
            times.append(time.perf_counter() - begun)
        return {
            "parameters": card["parameters"],
            "multiply_adds": card["multiply_adds"],
            "onnx_bytes": (run.folder / "model.onnx").stat().st_size,
            "training_ms": 1000 * spent / (epochs * len(data.train)),
            "ms": 1000 * statistics.median(times),
            "accuracy": card["metrics"]["accuracy"],
        }


def page(stored: dict[str, Any]) -> str:
    text = INTRODUCTION.format(**stored["about"])
    for name, row in sorted(stored["rows"].items(), key=lambda item: item[1]["multiply_adds"]):
        text += (
            f"| `{name}` | {row['parameters']:,} | {row['multiply_adds'] / 1e6:,.1f} M | {row['onnx_bytes'] / 1e6:.1f} MB "
            f"| {row['training_ms']:.1f} | {row['ms']:.2f} | {100 * row['accuracy']:.1f} % |\n"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013 as CSV")
    parser.add_argument("--faces", type=int, default=1000, help="training faces; default: %(default)s")
    parser.add_argument("--val", type=int, default=500, help="held-out faces; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--only", help="one architecture")
    parser.add_argument("--hardware", default="2 CPU cores", help="for the page; default: %(default)s")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data)
    picked = np.random.default_rng(0)
    some = np.sort(picked.permutation(len(data.train))[: options.faces])
    held = np.sort(picked.permutation(len(data.val))[: options.val])
    data = replace(data, splits={"Training": data.train.select(some), "PublicTest": data.val.select(held)})
    about = {
        "command": f"python benchmarks/architectures.py DATA --faces {options.faces} --val {options.val} --epochs {options.epochs}",
        "hardware": options.hardware,
        "faces": len(data.train),
        "epochs": options.epochs,
        "n": len(data.val),
    }
    kept = KeptRows(__file__, about, page)
    for name in ARCHITECTURES:
        if name in kept.rows or (options.only and name != options.only):
            continue
        kept.rows[name] = measured(name, data, options.epochs)
        print(f"{name}: {kept.rows[name]}", flush=True)
        kept.write()


if __name__ == "__main__":
    main()
