"""Make a finished training run the model that the package carries.

    python tools/ship_model.py runs/strong

Copies the network, writes its serving copy with the exporter of today, and writes the card anew: how faces are cut is
what this version measured for FER-2013 (`benchmarks/DETECTION.md`), and the licence is the project's. Figures on degraded
faces, and those of `voters` in eight bits, come into the cards afterwards, with `tools/card_figures.py`; README lists the
known failures that the card names.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ferkit.evaluation import model_card
from ferkit.models import model_folder
from ferkit.models.exporting import export, open_network, to_onnx
from ferkit.sources.images import FaceInput

TARGET = Path(__file__).parents[1] / "src" / "ferkit" / "models" / "packaged"
VOTERS_CARD = "VOTERS.md"
LICENCE = "Apache-2.0"
# What the cards say beyond what a run can know of itself.
CHOSEN = (
    "Epoch, temperature, recipe, teachers and seed were all chosen on PublicTest, so expect less on unseen faces. Nothing was "
    "measured on PrivateTest: the data that it was made with does not have it."
)
STORY = (
    "The teachers are other runs of this project. Their commands, the other seeds of this run and their spread stand in "
    "benchmarks/LEADERBOARD.md; benchmarks/retrain.py trains all of them again."
)
# What `write_card` writes itself.
_OWN = ("format", "classes", "face_input", "temperature", "intended_use", "created", "versions", "sha256", "serving")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = model_folder.find(parser.parse_args().run)
    # All of it is made elsewhere first: a model whose copies do not answer alike replaces nothing.
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        ship(run, made)
        if (run / "votes").is_dir():
            ship_voters(run / "votes", made)
        for file in made.iterdir():
            shutil.copyfile(file, TARGET / file.name)
    print(f"{TARGET} is now {run}.")


def ship(run: Path, folder: Path) -> None:
    """Network, serving copies in 32 and in eight bits, and cards."""
    card = model_folder.read_card(run)
    takes = card["face_input"]
    face_input = FaceInput(takes["height"], takes["width"], takes["channels"])
    # Checked against the run's card, and looked through for code.
    network = open_network(run)
    shutil.copyfile(run / model_folder.KERAS_FILE, folder / model_folder.KERAS_FILE)
    difference = to_onnx(network, face_input, folder / model_folder.ONNX_FILE)
    details = {
        "licence": LICENCE,
        **{key: value for key, value in card.items() if key not in _OWN},
        "serving": {"onnx_max_difference": difference},
    }
    details |= told(card)
    classes, temperature = tuple(card["classes"]), float(card["temperature"])
    for last in (False, True):
        written = model_folder.write_card(
            folder, classes=classes, face_input=face_input, temperature=temperature, details=details
        )
        if not last:
            # The file in eight bits is made from the folder and carries its card; then the card gains its checksum.
            parity = export(folder, folder / model_folder.INT8_FILE, "onnx-int8").parity
            details["serving"] |= {"int8_max_difference": parity.max_difference}
    model_card.write(folder, written)
    print(f"The serving copy differs by at most {difference:.2g}, eight bits by {parity.max_difference:.2g}.")


def told(card: dict[str, Any]) -> dict[str, Any]:
    """The parts of a run's card that say how its figures and it came about, with what only the project knows."""
    return {"metrics": card["metrics"] | {"note": CHOSEN}, "training": card["training"] | {"note": STORY}}


def ship_voters(run: Path, folder: Path) -> None:
    """The head on votes in eight bits, one file with its card inside, and the card for people beside it."""
    card = model_folder.read_card(run)
    card |= {"licence": LICENCE, **told(card)}
    card["metrics"]["note"] = f"Of the head before it was rounded to eight bits. {CHOSEN}"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(run, Path(scratch) / "votes"))
        (copy / model_folder.CARD_FILE).write_text(json.dumps(card), encoding="utf-8")
        parity = export(copy, folder / model_folder.VOTERS_FILE, "onnx-int8").parity
    # The checksums of the folder's own files, which stay where they are, would mislead.
    model_card.write(folder, {**card, "sha256": {}}, file=VOTERS_CARD, name="voters")
    print(f"Eight bits of {run} differ by at most {parity.max_difference:.2g}.")


if __name__ == "__main__":
    main()
