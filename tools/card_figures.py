"""Put figures that want a measurement of their own into the cards of the models that the package carries.

    ferkit evaluate fer2013 fer2013.csv --split PublicTest --robustness --limit 1000 --json > figures.json
    python tools/card_figures.py fer2013 figures.json
    ferkit evaluate default fer2013.csv --split PublicTest --votes fer2013new.csv --truth votes --robustness --limit 1000 --json > votes.json
    python tools/card_figures.py default votes.json

After `tools/ship_model.py`, which writes cards with the figures of the network before it was rounded to eight bits, and without those on
degraded faces and the curve of the sensitivity. Networks stay as they are. Figures of another model are refused: they must be
close to the card's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ferkit._support.files import write_atomically
from ferkit.errors import ModelError
from ferkit.evaluation import model_card
from ferkit.models import model_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="default, fer2013, or a model folder")
    parser.add_argument("figures", type=Path, help="what `ferkit evaluate ... --json` printed")
    arguments = parser.parse_args()
    folder = model_folder.find(arguments.model)
    add(folder, json.loads(arguments.figures.read_text(encoding="utf-8")), name=arguments.model)
    print(f"{folder} now has the figures of the copy that answers, and says how it bears degraded faces.")


# What rounding to eight bits may do to an accuracy.
_ROUNDED = 0.005
_NOT_FIGURES = ("model", "faces_per_second", "confusion", "coverage", "tta", "robustness")


def add(folder: Path, document: dict[str, Any], *, name: str) -> None:
    """Write the figures of an evaluation's JSON document into a model folder's card: those of the copy that answers.

    name: what ferkit loads the model by.
    """
    card = model_folder.read_card(folder)
    measured = card.get("metrics", {})
    same = all(document.get(entry) == measured.get(entry) for entry in ("split", "truth", "n"))
    if not same or abs(document["accuracy"] - measured["accuracy"]) > _ROUNDED:
        raise ModelError(
            f"The figures are {document['accuracy']:.4f} of {document['n']} faces of {document['split']}, the card in {folder} has "
            f"{measured.get('accuracy')} of {measured.get('n')} of {measured.get('split')}. Expected figures of the same model on "
            "the same faces."
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
    kept = {name: measured[name] for name in ("ece_uncalibrated", "note") if name in measured}
    card["metrics"] = {name: one for name, one in document.items() if name not in _NOT_FIGURES} | kept
    with write_atomically(folder / model_folder.CARD_FILE, ModelError) as draft:
        draft.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model_card.write(folder, card, name=name)


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
