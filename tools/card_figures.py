"""Put figures on degraded faces into the card of the model that the package carries.

    ferkit evaluate default fer2013.csv --split PublicTest --robustness --json > figures.json
    python tools/card_figures.py figures.json

After `tools/ship_model.py`, which writes a card without them. Only the card and its README change; the checksums of the
model's files stay as they are. Figures of another model are refused: their accuracy must be the card's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ferkit import model_card, model_folder
from ferkit.errors import ModelError
from ferkit.files import write_atomically

TARGET = Path(__file__).parents[1] / "src" / "ferkit" / "default_model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="what `ferkit evaluate default DATA --robustness --json` printed")
    parser.add_argument("--folder", type=Path, default=TARGET, help="the model folder; default: the package's")
    arguments = parser.parse_args()
    add(arguments.folder, json.loads(arguments.figures.read_text(encoding="utf-8")))
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
