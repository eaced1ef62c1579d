"""`card.json`: of a model folder whose network is whole, and of a bare file; with the card for people made of it."""

import functools
import json
import shutil
from pathlib import Path

from ferkit.evaluation.model_card import text_of
from ferkit.models import model_files, model_folder
from ferkit.models.classifier import EmotionClassifier
from fuzz.judge import Choices, Finding, folder, refusals_allowed
from onnx_files import tiny_onnx

WORDS = (b'"classes"', b'"face_input"', b'"temperature"', b'"height"', b'"width"', b'"channels"', b'"margin"', b'"align"',
         b'"pixel_scale"', b'"sha256"', b'"model.onnx"', b'"metrics"', b'"per_class"', b'"training"', b'"sittings"',
         b'"versions"', b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 40, b"null", b"true", b'"\\ud800"', b"[[[[[[[[",
         b'{"a":{"a":', b"\xef\xbb\xbf", b'"accuracy_ci95"', b'"calibration"')  # fmt: skip
LONGEST = 6000

LEAST = {"classes": ["a", "b"], "face_input": {"height": 4, "width": 4}, "temperature": 1.0}


def seeds() -> dict[str, bytes]:
    whole = json.loads((Path(model_folder.__file__).parent / "packaged" / "card.json").read_text("utf-8"))
    short = {**whole, "classes": ["a", "b"], "face_input": LEAST["face_input"]}
    cards = {
        "least": LEAST,
        "whole": short,
        "the packaged one": whole,
        "with a scale": {**LEAST, "pixel_scale": 0.5},
        "three classes": {**LEAST, "classes": ["a", "b", "c"]},
        "not a number": {**LEAST, "temperature": float("nan")},
        "huge": {**LEAST, "temperature": 10**400},
        "large faces": {**LEAST, "face_input": {"height": 10**9, "width": 10**9, "channels": 3}},
        "a list": [LEAST],
    }
    found: dict[str, bytes] = {}
    for kind in range(3):
        found |= {
            f"{name} {kind}": bytes([kind]) + json.dumps(card, ensure_ascii=False).encode()
            for name, card in cards.items()
        }
    return found


@functools.cache
def _model() -> tuple[Path, str]:
    """A model folder without its card, and the checksum of its network."""
    made = folder() / "model"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    (made / model_folder.ONNX_FILE).write_bytes(tiny_onnx())
    return made, model_folder.sha256(made / model_folder.ONNX_FILE)


def look(data: bytes) -> None:
    choices = Choices(data)
    kind, text = choices.number(3), choices.bytes()
    made, checksum = _model()
    with refusals_allowed():
        if kind == 0:
            # Whoever writes a card can write the right checksum as well.
            (made / model_folder.CARD_FILE).write_bytes(_with_checksum(text, checksum))
            classifier = EmotionClassifier.load(made)
            card = classifier.card
            _use(classifier)
        elif kind == 1:
            (made / model_folder.CARD_FILE).write_bytes(text)
            card = model_folder.read_card(made)
        else:
            card = model_files.parse_card(text, made)
        _write_for_people(card)


def _with_checksum(text: bytes, checksum: str) -> bytes:
    try:
        card = json.loads(text)
        card["sha256"] = {model_folder.ONNX_FILE: checksum}
        return json.dumps(card).encode()
    except (ValueError, TypeError, RecursionError):
        return text


def _use(classifier: EmotionClassifier) -> None:
    import numpy as np

    takes = classifier.face_input
    if takes.height * takes.width > 1 << 20:
        return
    probabilities = classifier.predict_proba(np.full((1, takes.height, takes.width, takes.channels), 99, np.uint8))
    if probabilities.shape != (1, len(classifier.classes)) or not np.isfinite(probabilities).all():
        raise Finding(f"probabilities {probabilities}")


def _write_for_people(card: dict[str, object]) -> None:
    if "\0" in text_of(card):
        return
