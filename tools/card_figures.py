"""Put figures that want a measurement of their own into the cards of the models that the package carries.

    ferkit evaluate default fer2013.csv --split PublicTest --robustness --limit 1000 --json > figures.json
    python tools/card_figures.py figures.json
    ferkit evaluate voters fer2013.csv --split PublicTest --votes fer2013new.csv --truth votes --json > voters.json
    python tools/card_figures.py --voters voters.json

After `tools/ship_model.py`: it writes a card without figures on degraded faces, and one of `voters` with those of the head
before it was rounded to eight bits. Networks stay as they are. Figures of another model are refused: they must be the
card's, or for `voters`, which rounding moves, close to them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import onnx
from ship_model import CHOSEN, VOTERS_CARD

from ferkit._support.files import write_atomically
from ferkit.errors import ModelError
from ferkit.evaluation import model_card
from ferkit.models import model_folder
from ferkit.models.export_formats import FIGURES
from ferkit.models.model_files import CARD_KEY, card_text

TARGET = Path(__file__).parents[1] / "src" / "ferkit" / "models" / "packaged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="what `ferkit evaluate ... --json` printed")
    parser.add_argument("--voters", action="store_true", help="they are those of the packaged `voters`")
    parser.add_argument("--folder", type=Path, default=TARGET, help="the model folder; default: the package's")
    arguments = parser.parse_args()
    document = json.loads(arguments.figures.read_text(encoding="utf-8"))
    if arguments.voters:
        add_voters(arguments.folder, document)
        print(f"{arguments.folder / VOTERS_CARD} now has the figures of the file as it is.")
    else:
        add(arguments.folder, document)
        print(f"{arguments.folder} now says how it bears degraded faces.")


def add(folder: Path, document: dict[str, Any]) -> None:
    """Write `robustness` of an evaluation's JSON document into a model folder's card."""
    card = model_folder.read_card(folder)
    measured = card.get("metrics", {})
    for name in ("split", "accuracy"):
        if document[name] != measured.get(name):
            raise ModelError(
                f"The figures are of {name} {document[name]}, the card in {folder} of {measured.get(name)}. Expected "
                "figures of the same model on the same faces."
            )
    found = document["robustness"]
    figures = {
        "split": document["split"],
        **{name: value for name, value in found.items() if name != "degradations"},
        "limited": found["n"] < document["n"],
        "degradations": {name: _in_rows(one) for name, one in found["degradations"].items()},
    }
    # Behind the other figures, not at the end.
    entries = {name: value for name, value in card.items() if name != "robustness"}
    place = list(entries).index("metrics") + 1
    items = [*entries.items()]
    card = dict([*items[:place], ("robustness", figures), *items[place:]])
    with write_atomically(folder / model_folder.CARD_FILE, ModelError) as draft:
        draft.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model_card.write(folder, card)


# What rounding to eight bits may do to an accuracy.
_ROUNDED = 0.005
_NOT_FIGURES = ("model", "faces_per_second", "confusion", "coverage", "tta")


def add_voters(folder: Path, document: dict[str, Any]) -> None:
    """Write an evaluation of `voters` into the card inside its file and into the page beside it."""
    file = folder / model_folder.VOTERS_FILE
    network = onnx.load(file)
    (entry,) = (one for one in network.metadata_props if one.key == CARD_KEY)
    inside = json.loads(entry.value)
    known = inside["metrics"]
    same = all(document.get(name) == known.get(name) for name in ("split", "truth", "n"))
    if not same or abs(document["accuracy"] - known["accuracy"]) > _ROUNDED:
        raise ModelError(
            f"The figures are {document['accuracy']:.4f} of {document['n']} faces of {document['split']}, the card in {file} "
            f"has {known['accuracy']:.4f} of {known['n']} of {known['split']}. Expected figures of that file against votes."
        )
    figures = {name: value for name, value in document.items() if name not in _NOT_FIGURES}
    inside["metrics"] = {name: figures[name] for name in FIGURES}
    entry.value = card_text(inside)
    with write_atomically(file, ModelError) as draft:
        draft.write_bytes(network.SerializeToString())
    # Both heads come out of one training, which the folder's own card tells; checksums are of the folder's other files.
    card = {
        name: value for name, value in model_folder.read_card(folder).items() if name not in ("robustness", "serving")
    }
    figures["note"] = f"Measured as it is, in eight bits. {CHOSEN}"
    card |= {"metrics": figures, "temperature": inside["temperature_inside"], "sha256": {}}
    model_card.write(folder, card, file=VOTERS_CARD, name="voters")


def _in_rows(one: dict[str, Any]) -> dict[str, Any]:
    """One degradation with a list for each figure, which a card bears better than a record for each strength."""
    levels = one["levels"]
    return {
        "unit": one["unit"],
        "mean_accuracy": one["mean_accuracy"],
        "strengths": [level["strength"] for level in levels],
        "accuracy": [level["accuracy"] for level in levels],
        "mean_confidence": [level["mean_confidence"] for level in levels],
    }


if __name__ == "__main__":
    main()
